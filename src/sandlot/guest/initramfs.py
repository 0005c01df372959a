"""The guest's first file system: the agent as /init, and the kernel modules in loading order."""

from __future__ import annotations

import stat
from pathlib import Path

from sandlot.guest import cpio
from sandlot.guest.kernel import Kernel


def build_initramfs(kernel: Kernel, agent: Path) -> bytes:
    """The archive as the kernel takes it, not compressed: an emulated guest would pay for that."""
    entries = [cpio.folder(name) for name in ("dev", "proc", "sys", "etc", "modules")]
    entries.append(cpio.Entry("dev/console", stat.S_IFCHR | 0o600, device=(5, 1)))
    entries.append(cpio.program("init", agent.read_bytes()))
    entries += [cpio.program(f"modules/{path.name}", path.read_bytes()) for path in kernel.modules]
    return cpio.build(entries)
