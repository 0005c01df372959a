"""Every environment variable that Sandlot reads, in one place."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Settings:
    """What the environment says. Empty text means: not set."""

    data: Path
    """SANDLOT_DATA, else XDG_DATA_HOME/sandlot: images, templates, sandboxes."""
    runtime: Path
    """SANDLOT_RUNTIME, else XDG_RUNTIME_DIR/sandlot: the sockets of running sandboxes."""
    qemu: str = ""
    """SANDLOT_QEMU: the QEMU program to use."""
    accelerator: str = ""
    """SANDLOT_ACCELERATOR: `kvm`, `hvf` or `tcg`, taken without a probe."""
    kernel: str = ""
    """SANDLOT_KERNEL: a guest kernel image instead of the distribution's."""
    kernel_modules: str = ""
    """SANDLOT_KERNEL_MODULES: the folder of that kernel's modules, if it needs any."""

    snapshot_cache: str = ""
    """SANDLOT_SNAPSHOT_CACHE: how much disk the whole memory files of snapshots may take together,
    such as `20G`; 8G when it is not set. The least recently restored are dropped first, and made
    again when they are needed."""
    pull: str = ""
    """SANDLOT_PULL: `missing`, `always` or `never`: when a registry is asked for an image."""
    registries: str = ""
    """SANDLOT_REGISTRIES: the file of mirrors and more, else XDG_CONFIG_HOME/sandlot/registries.toml."""
    registry_mirrors: str = ""
    """SANDLOT_REGISTRY_MIRRORS: `[REGISTRY=]MIRROR` words, divided by commas."""
    insecure_registries: str = ""
    """SANDLOT_INSECURE_REGISTRIES: hosts that may be spoken to without encryption, divided by commas."""
    registry_ca: str = ""
    """SANDLOT_REGISTRY_CA: a file of certificates to trust for every registry."""
    key: str = ""
    """SANDLOT_KEY: the file of the keys that open remotes, else XDG_CONFIG_HOME/sandlot/key."""
    passphrase_file: str = ""
    """SANDLOT_PASSPHRASE_FILE: a file with a passphrase that opens remotes too."""

    remotes: Path = Path("remotes.toml")
    """SANDLOT_REMOTES: the file of the remotes that have names, else
    XDG_CONFIG_HOME/sandlot/remotes.toml."""
    remote: str = ""
    """SANDLOT_REMOTE: the remote that is meant when none is named: its name, or its address."""

    @classmethod
    def read(cls) -> Settings:
        """From the environment as it is now."""
        get = os.environ.get
        home = Path(get("HOME") or Path.home())
        data = Path(
            get("SANDLOT_DATA") or Path(get("XDG_DATA_HOME") or home / ".local/share") / "sandlot"
        )
        runtime = get("SANDLOT_RUNTIME")
        if not runtime:
            base = get("XDG_RUNTIME_DIR")
            runtime = f"{base}/sandlot" if base and os.access(base, os.W_OK) else f"{data}/run"
        config = Path(get("XDG_CONFIG_HOME") or home / ".config")
        remotes = Path(get("SANDLOT_REMOTES") or config / "sandlot/remotes.toml")
        return cls(
            data.absolute(), Path(runtime).absolute(), get("SANDLOT_QEMU", ""),
            get("SANDLOT_ACCELERATOR", ""), get("SANDLOT_KERNEL", ""),
            get("SANDLOT_KERNEL_MODULES", ""), get("SANDLOT_SNAPSHOT_CACHE", ""),
            get("SANDLOT_PULL", ""),
            get("SANDLOT_REGISTRIES", ""), get("SANDLOT_REGISTRY_MIRRORS", ""),
            get("SANDLOT_INSECURE_REGISTRIES", ""), get("SANDLOT_REGISTRY_CA", ""),
            get("SANDLOT_KEY") or f"{get('XDG_CONFIG_HOME') or home / '.config'}/sandlot/key",
            get("SANDLOT_PASSPHRASE_FILE", ""),
            remotes.absolute(), get("SANDLOT_REMOTE", ""),
        )  # fmt: skip
