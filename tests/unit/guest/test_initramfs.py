"""The first file system of a guest."""

from __future__ import annotations

from pathlib import Path

from sandlot.guest.initramfs import build_initramfs
from sandlot.guest.kernel import Kernel
from tests.unit.guest.test_cpio import parse


def test_the_agent_is_init_and_modules_keep_their_order(tmp_path: Path) -> None:
    names = ("000-virtio.ko", "001-erofs.ko")
    for name in names:
        (tmp_path / name).write_bytes(name.encode())
    (tmp_path / "agent").write_bytes(b"the agent")
    kernel = Kernel("k", tmp_path / "vmlinuz", tuple(tmp_path / name for name in names))
    archive = build_initramfs(kernel, tmp_path / "agent")
    files = {name: data for _, name, data in parse(archive)}
    assert files["init"] == b"the agent"
    assert [n for n in files if n.startswith("modules/")] == [f"modules/{name}" for name in names]
    assert {"dev", "proc", "sys", "dev/console"} <= set(files)
    assert archive == build_initramfs(kernel, tmp_path / "agent")
