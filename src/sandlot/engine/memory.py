"""The memory of a running machine that is its own: pages that differ from the file it was restored
from, found by the kernel's page tables and read from outside (docs/design/0017-snapshots.md).

A page that the machine never wrote is still the file's. Those it wrote are anonymous: present or
swapped out, and not of a file. Source: Documentation/admin-guide/mm/pagemap.rst.
"""

from __future__ import annotations

import array
import ctypes
import fcntl
import mmap
import os
import re
import struct
import sys
from pathlib import Path

from sandlot.errors import EngineUnavailable, SandboxError

PAGE = 4096
_PAGEMAP_SCAN = 0xC0606610  # _IOWR('f', 16, struct pm_scan_arg), linux/fs.h
_SCAN = struct.Struct("=12Q")
_IS_FILE, _IS_PRESENT, _IS_SWAPPED = 4, 8, 16
_MOST_REGIONS = 65536
# The highest byte of an entry of pagemap: present, swapped, of a file.
_OWN = bytes(int(bool(each & 0xC0) and not each & 0x20) for each in range(256))
_MOST_VECTORS = 1024  # IOV_MAX

Run = tuple[int, int]
"""(first page, number of pages)."""


class GuestMemory:
    """The memory of one machine's process, which is mapped from the file `ram`, `size` bytes.

    Raises:
        EngineUnavailable: this host does not show it.
        SandboxError: the process is gone, or has mapped another file.
    """

    def __init__(self, pid: int, ram: Path, size: int) -> None:
        if sys.platform != "linux":
            raise EngineUnavailable(
                "the memory of a running sandbox can be saved on Linux only",
                hint="save its disk alone: snapshot(disk_only=True)",
            )
        self._pid = pid
        self.size = size
        self._start = _mapping(pid, ram, size)

    def own(self) -> list[Run]:
        """Which pages are the machine's own, in order.

        Raises:
            SandboxError: the process is gone.
        """
        try:
            descriptor = os.open(f"/proc/{self._pid}/pagemap", os.O_RDONLY | os.O_CLOEXEC)
            try:
                try:
                    return self._scan(descriptor)
                except OSError:  # before Linux 6.7
                    return self._read(descriptor)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise SandboxError(f"the machine's page tables cannot be read: {error}") from error

    def _scan(self, descriptor: int, most: int = _MOST_REGIONS) -> list[Run]:
        regions = ctypes.create_string_buffer(24 * most)
        end = self._start + self.size
        runs: list[Run] = []
        at = self._start
        while at < end:
            argument = bytearray(
                _SCAN.pack(
                    96, 0, at, end, 0, ctypes.addressof(regions), most, 0,
                    _IS_FILE, _IS_FILE, _IS_PRESENT | _IS_SWAPPED, _IS_PRESENT,
                )
            )  # fmt: skip
            count = fcntl.ioctl(descriptor, _PAGEMAP_SCAN, argument)
            # A region has one set of categories: present and swapped neighbours are two.
            for first, last, _ in struct.iter_unpack("=3Q", regions.raw[: 24 * count]):
                _extend(runs, (first - self._start) // PAGE, (last - first) // PAGE)
                at = last
            # Not where the kernel says that it stopped (walk_end): when its own buffer of 512 regions
            # was full on the way, that is left at where it was then, though it went on to the end.
            if count < most:
                break
        return runs

    def _read(self, descriptor: int) -> list[Run]:
        entries = os.pread(descriptor, self.size // PAGE * 8, self._start // PAGE * 8)
        own = entries[7::8].translate(_OWN)
        return [(m.start(), m.end() - m.start()) for m in re.finditer(rb"\x01+", own)]

    def copy(self, runs: list[Run], target: mmap.mmap) -> None:
        """Copy pages to the same offsets of `target`, which is as large as the memory.

        Raises:
            SandboxError: the process is gone.
        """
        here = ctypes.addressof(ctypes.c_char.from_buffer(target))
        for at in range(0, len(runs), _MOST_VECTORS):
            part = runs[at : at + _MOST_VECTORS]
            local, remote, total = array.array("Q"), array.array("Q"), 0
            for first, count in part:
                length = count * PAGE
                local.extend((here + first * PAGE, length))
                remote.extend((self._start + first * PAGE, length))
                total += length
            self._copy(local, remote, total)

    def _copy(self, local: array.array[int], remote: array.array[int], total: int) -> None:
        # One call copies 2 GiB at most, and less than was asked only when it fails on the way.
        copied = _process_vm_readv()(
            self._pid, local.buffer_info()[0], len(local) // 2,
            remote.buffer_info()[0], len(remote) // 2, 0,
        )  # fmt: skip
        if copied == total:
            return
        error = os.strerror(ctypes.get_errno()) if copied < 0 else f"only {copied} of {total} bytes"
        if total > 1 << 30 and copied > 0:
            half = len(local) // 4 * 2
            if half:
                self._copy(local[:half], remote[:half], sum(local[1:half:2]))
                self._copy(local[half:], remote[half:], sum(local[half + 1 :: 2]))
                return
        raise SandboxError(f"the memory of the machine cannot be read: {error}")


def buffer(size: int) -> mmap.mmap:
    """Memory for `GuestMemory.copy`, which takes room where something is put only."""
    return mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _noreserve())


def prepare(target: mmap.mmap, runs: list[Run]) -> None:
    """Take the room for these pages now, so that copying meets no page faults."""
    madvise = ctypes.CDLL(None, use_errno=True).madvise
    here = ctypes.addressof(ctypes.c_char.from_buffer(target))
    populate = 23  # MADV_POPULATE_WRITE, Linux 5.14; before it, nothing happens
    for first, count in _joined(runs, 16):
        madvise(ctypes.c_void_p(here + first * PAGE), ctypes.c_size_t(count * PAGE), populate)


def _joined(runs: list[Run], gap: int) -> list[Run]:
    """Runs that are close together as one."""
    joined: list[Run] = []
    for first, count in runs:
        if joined and first - sum(joined[-1]) <= gap:
            joined[-1] = (joined[-1][0], first + count - joined[-1][0])
        else:
            joined.append((first, count))
    return joined


def _extend(runs: list[Run], first: int, count: int) -> None:
    if runs and sum(runs[-1]) == first:
        runs[-1] = (runs[-1][0], runs[-1][1] + count)
    else:
        runs.append((first, count))


def _noreserve() -> int:
    return int(getattr(mmap, "MAP_NORESERVE", 0x4000 if sys.platform == "linux" else 0))


def _process_vm_readv() -> ctypes._NamedFuncPointer:
    function = ctypes.CDLL(None, use_errno=True).process_vm_readv
    function.argtypes = (
        ctypes.c_int, ctypes.c_void_p, ctypes.c_ulong, ctypes.c_void_p, ctypes.c_ulong,
        ctypes.c_ulong,
    )  # fmt: skip
    function.restype = ctypes.c_ssize_t
    return function


def _mapping(pid: int, ram: Path, size: int) -> int:
    """Where the process has mapped the file."""
    status = ram.stat()
    wanted = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x} {status.st_ino} "
    found: list[tuple[int, int]] = []
    try:
        with Path(f"/proc/{pid}/maps").open() as maps:
            for line in maps:
                if wanted in line:
                    start, _, end = line.partition(" ")[0].partition("-")
                    found.append((int(start, 16), int(end, 16)))
    except OSError as error:
        raise SandboxError(f"the memory of the machine cannot be found: {error.strerror}") from None
    if not found or found[-1][1] - found[0][0] != size:
        raise SandboxError(f"the memory of the machine is not mapped from {ram}")
    return found[0][0]
