"""The guest's kernel from a path, and no way to download one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sandlot.errors import KernelUnavailable
from sandlot.guest.kernel import _store, cached_kernel, find_kernel
from tests.unit.guest.test_modules import module


async def test_from_a_path_with_modules(tmp_path: Path) -> None:
    (tmp_path / "vmlinuz").write_bytes(b"kernel")
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "ext4.ko").write_bytes(module("jbd2"))
    (tmp_path / "m" / "jbd2.ko").write_bytes(module())
    kernels = tmp_path / "kernels"
    kernels.mkdir()
    image, modules = str(tmp_path / "vmlinuz"), str(tmp_path / "m")
    kernel = await find_kernel(kernels, "x86_64", image=image, modules=modules)
    assert kernel.image.read_bytes() == b"kernel"
    assert [path.name for path in kernel.modules] == ["000-jbd2.ko", "001-ext4.ko"]
    assert await find_kernel(kernels, "x86_64", image=image, modules=modules) == kernel


async def test_a_kernel_without_a_module_that_is_wanted_now(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is downloaded again, and used all the same where nothing can be downloaded."""
    target = tmp_path / "linux-image-1"
    _store(target, "linux-image-1", b"kernel", {"ext4": module()})
    (tmp_path / "current-x86_64").write_text("linux-image-1")
    assert cached_kernel(tmp_path, "x86_64") is not None
    about = json.loads((target / "kernel.json").read_text())
    del about["wanted"]  # as earlier versions wrote it
    (target / "kernel.json").write_text(json.dumps(about))
    assert cached_kernel(tmp_path, "x86_64") is None
    monkeypatch.setenv("PATH", str(tmp_path))
    kernel = await find_kernel(tmp_path, "x86_64")
    assert [path.name for path in kernel.modules] == ["000-ext4.ko"]


async def test_a_path_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(KernelUnavailable, match="is not a file"):
        await find_kernel(tmp_path, "x86_64", image="/no/such")


async def test_no_apt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(KernelUnavailable, match="no apt") as caught:
        await find_kernel(tmp_path, "x86_64")
    assert "SANDLOT_KERNEL" in caught.value.hint


async def test_a_package_that_apt_does_not_know(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, code in (("apt-get", 0), ("apt-cache", 100), ("dpkg-deb", 0)):
        (tmp_path / name).write_text(f"#!/bin/sh\nexit {code}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    with pytest.raises(KernelUnavailable, match="apt knows no package"):
        await find_kernel(tmp_path, "x86_64")
