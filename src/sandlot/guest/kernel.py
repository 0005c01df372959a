"""The guest's kernel: the distribution's own cloud package, downloaded without root, or a path."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import tarfile
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from sandlot.errors import KernelUnavailable
from sandlot.guest.modules import WANTED, load_order, module_name, unpacked
from sandlot.state.lock import locked

# Debian's cloud kernel, and Ubuntu's virtual one, whose modules are in a package of their own.
PACKAGES = {
    "x86_64": ("linux-image-cloud-amd64", "linux-image-virtual"),
    "aarch64": ("linux-image-cloud-arm64", "linux-image-virtual"),
}
Tell = Callable[[str], None]


@dataclass(frozen=True)
class Kernel:
    """A kernel image and the modules that a guest loads, in order."""

    name: str
    image: Path
    modules: tuple[Path, ...]


async def find_kernel(
    folder: Path, machine: str, *, image: str = "", modules: str = "", tell: Tell = lambda _: None
) -> Kernel:
    """The kernel at `image` with the modules below `modules`, or the distribution's, cached in `folder`.

    Raises:
        KernelUnavailable: no such file, or nothing could be downloaded.
    """
    if image:
        return _from_path(folder, Path(image), Path(modules) if modules else None)
    known = cached_kernel(folder, machine)
    if known is not None:
        return known
    async with locked(folder / "lock"):
        known = cached_kernel(folder, machine)
        if known is not None:
            return known
        tell("downloading the guest kernel")
        try:
            return await _download(folder, machine, tell)
        except KernelUnavailable:
            older = _older_kernel(folder, machine)
            if older is None:
                raise
            tell(f"using the {older.name} that is here")
            return older


def _from_path(folder: Path, image: Path, modules: Path | None) -> Kernel:
    if not image.is_file():
        raise KernelUnavailable(f"SANDLOT_KERNEL={image} is not a file")
    if modules is None:
        return Kernel(image.name, image.absolute(), ())
    if not modules.is_dir():
        raise KernelUnavailable(f"SANDLOT_KERNEL_MODULES={modules} is not a folder")
    found: dict[str, bytes] = {}
    for path in sorted(modules.rglob("*.ko*")):
        name = module_name(path.name)
        if name:
            found[name] = unpacked(path.name, path.read_bytes())
    status = image.stat()
    target = folder / f"path-{image.name}-{status.st_mtime_ns}-{status.st_size}"
    if not _is_current(target):
        _store(target, image.name, image.read_bytes(), found)
    return _load(target)


def cached_kernel(folder: Path, machine: str) -> Kernel | None:
    """The kernel that was downloaded before, or None. One with other modules does not count."""
    kernel = _older_kernel(folder, machine)
    return kernel if kernel is not None and _is_current(kernel.image.parent) else None


def _older_kernel(folder: Path, machine: str) -> Kernel | None:
    """As `cached_kernel`, with whatever modules were wanted when it was downloaded."""
    try:
        return _load(folder / (folder / f"current-{machine}").read_text().strip())
    except (OSError, ValueError, KeyError):
        return None


def _is_current(folder: Path) -> bool:
    """Whether the modules in a kernel's folder are those that are wanted now."""
    try:
        data: dict[str, object] = json.loads((folder / "kernel.json").read_text())
    except (OSError, ValueError):
        return False
    return data.get("wanted") == list(WANTED)


def _load(folder: Path) -> Kernel:
    data = json.loads((folder / "kernel.json").read_text())
    modules = tuple(folder / name for name in data["modules"])
    image = folder / "vmlinuz"
    if not all(path.exists() for path in (image, *modules)):
        raise ValueError("incomplete")
    return Kernel(data["name"], image, modules)


def _store(target: Path, name: str, image: bytes, modules: dict[str, bytes]) -> None:
    """Write a kernel's folder under another name and put it in place whole."""
    order = load_order(modules)
    partial = Path(tempfile.mkdtemp(prefix=".new-", dir=target.parent))
    try:
        (partial / "vmlinuz").write_bytes(image)
        files = []
        for index, module in enumerate(order):
            files.append(f"{index:03}-{module}.ko")
            (partial / files[-1]).write_bytes(modules[module])
        (partial / "kernel.json").write_text(
            json.dumps({"name": name, "modules": files, "wanted": list(WANTED)})
        )
        if target.exists():
            shutil.rmtree(target)
        partial.rename(target)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


async def _download(folder: Path, machine: str, tell: Tell) -> Kernel:
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        raise KernelUnavailable(
            "this system has no apt to download a guest kernel with",
            hint="set SANDLOT_KERNEL to a kernel image and SANDLOT_KERNEL_MODULES to its modules",
        )
    with tempfile.TemporaryDirectory(prefix=".apt-", dir=folder) as scratch:
        apt = _Apt(Path(scratch))
        package = await apt.resolve(PACKAGES[machine])
        if package is None:
            tell("reading the package lists")
            await apt.update()
            package = await apt.resolve(PACKAGES[machine])
        if package is None:
            names = " or ".join(PACKAGES[machine])
            raise KernelUnavailable(
                f"apt knows no package {names}",
                hint="run `sudo apt-get update`, or set SANDLOT_KERNEL to a kernel image",
            )
        tell(f"downloading {package}")
        image, modules = _read_packages([await apt.download(package)])
        if "virtio_blk" not in modules:
            extra = package.replace("linux-image-", "linux-modules-").replace("unsigned-", "")
            with contextlib.suppress(KernelUnavailable):
                modules |= _read_packages([await apt.download(extra)])[1]
        if image is None:
            raise KernelUnavailable(f"the package {package} holds no kernel image")
        target = folder / package
        await asyncio.to_thread(_store, target, package, image, modules)
    partial = folder / f".current-{os.getpid()}"
    partial.write_text(package)
    partial.replace(folder / f"current-{machine}")
    return _load(target)


class _Apt:
    """apt without root: lists and archives in a folder of ours, the host's own sources."""

    def __init__(self, scratch: Path) -> None:
        self._scratch = scratch
        self._options: list[str] = []

    async def resolve(self, names: Iterable[str]) -> str | None:
        """The versioned package that the first known of these meta-packages stands for."""
        for name in names:
            status, output = await self._run("apt-cache", *self._options, "depends", name)
            if status:
                continue
            for line in output.splitlines():
                kind, _, package = line.strip().partition(": ")
                if kind == "Depends" and package.startswith("linux-image-"):
                    return package
        return None

    async def update(self) -> None:
        """Fetch the package lists into the scratch folder."""
        for name in ("lists/partial", "cache/archives/partial", "log"):
            (self._scratch / name).mkdir(parents=True)
        self._options = [
            f"-oDir::State::lists={self._scratch}/lists", f"-oDir::Cache={self._scratch}/cache",
            f"-oDir::Log={self._scratch}/log", "-oDebug::NoLocking=1", "-oAPT::Sandbox::User=",
        ]  # fmt: skip
        status, output = await self._run("apt-get", *self._options, "update", "-qq")
        if status:
            raise KernelUnavailable(
                f"`apt-get update` failed: {_last_line(output)}", hint="is the network reachable?"
            )

    async def download(self, package: str) -> Path:
        """Fetch one package into the scratch folder."""
        status, output = await self._run(
            "apt-get", *self._options, "-oAPT::Sandbox::User=", "download", "-qq", package
        )
        found = sorted(self._scratch.glob(f"{package}_*.deb"))
        if status or not found:
            raise KernelUnavailable(
                f"`apt-get download {package}` failed: {_last_line(output)}",
                hint="is the network reachable? else set SANDLOT_KERNEL to a kernel image",
            )
        return found[0]

    async def _run(self, *command: str) -> tuple[int, str]:
        process = await asyncio.create_subprocess_exec(
            *command, cwd=self._scratch, stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
            env={**os.environ, "LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive"},
        )  # fmt: skip
        try:
            output, _ = await process.communicate()
        except BaseException:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
            raise
        return process.returncode or 0, output.decode(errors="replace")


def _last_line(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "no message"


def _read_packages(packages: list[Path]) -> tuple[bytes | None, dict[str, bytes]]:
    """The kernel image and all modules that may be wanted from unpacked packages."""
    import subprocess

    image: bytes | None = None
    modules: dict[str, bytes] = {}
    for package in packages:
        with subprocess.Popen(
            ["dpkg-deb", "--fsys-tarfile", package], stdout=subprocess.PIPE
        ) as process:
            assert process.stdout is not None
            with tarfile.open(fileobj=process.stdout, mode="r|") as archive:
                for member in archive:
                    name = module_name(member.name)
                    if not member.isfile() or not (name or "/boot/vmlinuz-" in member.name):
                        continue
                    if name and not _may_be_wanted(member.name):
                        continue
                    file = archive.extractfile(member)
                    assert file is not None
                    if name:
                        modules[name] = unpacked(member.name, file.read())
                    else:
                        image = file.read()
    return image, modules


def _may_be_wanted(path: str) -> bool:
    """Whether a module lies where the wanted ones and their dependencies are, to read only those."""
    folders = ("/drivers/virtio/", "/drivers/block/", "/drivers/char/", "/fs/", "/lib/", "/crypto/")
    return module_name(path) in WANTED or any(folder in path for folder in folders)
