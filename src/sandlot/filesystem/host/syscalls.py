"""Calls of the host's kernel that Python has no function for, and what stands in for them where they
are missing. Each raises OSError as the functions of `os` do."""

from __future__ import annotations

import ctypes
import errno
import functools
import os
import platform
import sys
from struct import Struct

LINUX = sys.platform.startswith("linux")
O_PATH: int = getattr(os, "O_PATH", 0)
"""Only names an inode, opens nothing; 0 where the host has no such descriptors."""
PROC = "/proc/self/fd/"
"""Where a descriptor of this program has a path, which leads to its very inode."""

_RESOLVE_NO_MAGICLINKS, _RESOLVE_NO_SYMLINKS, _RESOLVE_BENEATH = 0x02, 0x04, 0x08
_OPENAT2 = 437  # the same number on every machine
_RENAMEAT2 = {"x86_64": 316, "aarch64": 276, "riscv64": 276}
_HOW = Struct("=QQQ")  # struct open_how
_RETRIES = 8
# linux/magic.h: what may wait for another machine, or for a program.
_REMOTE = {
    0x6969, 0x517B, 0xFF534D42, 0xFE534D42, 0x65735546, 0x5346414F, 0x00C36400, 0x01021997,
    0x73757245, 0x0BD00BD0, 0x7461636F, 0x564C, 0x47504653,
}  # fmt: skip
NOREPLACE, EXCHANGE = 1, 2

_libc = ctypes.CDLL(None, use_errno=True)
_without: set[str] = set()
"""Calls that this host turned out not to have."""


def _failed(*names: str | bytes) -> OSError:
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number), *(os.fsdecode(name) for name in names[:1]))


@functools.cache
def has_proc() -> bool:
    """Whether descriptors have paths here."""
    return LINUX and os.path.isdir(PROC)


def open_beneath(folder: int, path: str, flags: int) -> int | None:
    """Open what a path of several names leads to, never out of a folder and over no symbolic link.

    None where the host cannot, and it is to be walked name by name.

    Raises:
        OSError: it does not lead there; ELOOP for a symbolic link, EXDEV for a way out.
    """
    if not LINUX or "openat2" in _without:
        return None
    resolve = _RESOLVE_BENEATH | _RESOLVE_NO_SYMLINKS | _RESOLVE_NO_MAGICLINKS
    how = _HOW.pack(flags | os.O_CLOEXEC, 0, resolve)
    name = os.fsencode(path)
    for _ in range(_RETRIES):
        # SAFETY: the buffers of `name` and `how` outlive the call, which only reads them, and the
        # size is that of `how`; every argument is as wide as a register.
        number: int = _libc.syscall(
            ctypes.c_long(_OPENAT2), ctypes.c_long(folder), ctypes.c_char_p(name),
            ctypes.c_char_p(how), ctypes.c_size_t(len(how)),
        )  # fmt: skip
        if number >= 0:
            return number
        failed = ctypes.get_errno()
        if failed == errno.EAGAIN:  # something was renamed meanwhile, anywhere on the host
            continue
        if failed in (errno.ENOSYS, errno.EPERM, errno.EINVAL):
            _without.add("openat2")
            return None
        break
    raise _failed(path)


def rename(folder: int, name: str, new_folder: int, new_name: str, flags: int) -> None:
    """Rename with the flags of renameat2(2): not over something, or exchange.

    Raises:
        OSError: EINVAL where the host or the file system cannot.
    """
    if not flags:
        os.rename(name, new_name, src_dir_fd=folder, dst_dir_fd=new_folder)
        return
    if flags & ~(NOREPLACE | EXCHANGE) or flags == NOREPLACE | EXCHANGE:
        raise OSError(errno.EINVAL, "no such way to rename")
    old, new = os.fsencode(name), os.fsencode(new_name)
    if LINUX:
        number = _RENAMEAT2.get(platform.machine())
        if number is None:
            raise OSError(errno.EINVAL, "renaming with flags is not known for this machine")
        # SAFETY: both names are buffers that end with NUL and outlive the call.
        failed = _libc.syscall(
            ctypes.c_long(number), ctypes.c_long(folder), ctypes.c_char_p(old),
            ctypes.c_long(new_folder), ctypes.c_char_p(new), ctypes.c_ulong(flags),
        )  # fmt: skip
    elif hasattr(_libc, "renameatx_np"):
        apple = 2 if flags == EXCHANGE else 4  # RENAME_SWAP, RENAME_EXCL
        # SAFETY: as above; macOS declares this function with these five arguments.
        failed = _libc.renameatx_np(
            ctypes.c_int(folder), ctypes.c_char_p(old), ctypes.c_int(new_folder),
            ctypes.c_char_p(new), ctypes.c_uint(apple),
        )  # fmt: skip
    else:
        raise OSError(errno.EINVAL, "this host does not rename with flags")
    if failed:
        raise _failed(name)


KEEP_SIZE, PUNCH_HOLE, ZERO_RANGE = 0x01, 0x02, 0x10
_FALLOCATE = {0, KEEP_SIZE, KEEP_SIZE | PUNCH_HOLE, ZERO_RANGE, ZERO_RANGE | KEEP_SIZE}


def fallocate(descriptor: int, mode: int, offset: int, length: int) -> None:
    """As fallocate(2): room, a hole, zeros.

    Raises:
        OSError: EOPNOTSUPP where the host or the file system cannot.
    """
    if mode not in _FALLOCATE:
        raise OSError(errno.EOPNOTSUPP, "no such way to allocate")
    if length <= 0 or offset < 0 or offset + length > (1 << 63) - 1:
        raise OSError(errno.EINVAL, "no such part of a file")
    if hasattr(_libc, "fallocate"):
        # SAFETY: plain numbers; off_t has 64 bits on every machine that Sandlot runs on.
        failed = _libc.fallocate(
            ctypes.c_int(descriptor), ctypes.c_int(mode), ctypes.c_int64(offset),
            ctypes.c_int64(length),
        )  # fmt: skip
        if failed:
            raise _failed()
        return
    if mode:
        raise OSError(errno.EOPNOTSUPP, "this host makes no holes")
    if os.fstat(descriptor).st_size < offset + length:
        os.ftruncate(descriptor, offset + length)


def is_remote(descriptor: int) -> bool:
    """Whether a file system is another machine's, or a program's, so that every call may wait."""
    if not LINUX or not hasattr(_libc, "fstatfs"):
        return False
    room = ctypes.create_string_buffer(512)
    # SAFETY: struct statfs has 120 bytes at most; `room` is larger and outlives the call.
    if _libc.fstatfs(ctypes.c_int(descriptor), room):
        return False
    return int.from_bytes(room.raw[:8], sys.byteorder) & 0xFFFFFFFF in _REMOTE


_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_KEPT = 64 << 20


@functools.cache
def keep_freed_memory() -> bool:
    """Have the C library keep some memory that was freed (64 MiB at most), instead of giving each
    buffer of a megabyte back to the kernel and getting it anew, page by page: that takes ten times
    as long as reading a file into it. What the environment says (MALLOC_...) is left alone.

    Returns whether it could be had: with glibc.
    """
    if (
        not LINUX
        or not hasattr(_libc, "mallopt")
        or any(k.startswith("MALLOC_") for k in os.environ)
    ):
        return False
    # SAFETY: plain numbers; mallopt(3) may be called at any time, by any thread.
    large = _libc.mallopt(ctypes.c_int(_M_MMAP_THRESHOLD), ctypes.c_int(4 << 20))
    return bool(large and _libc.mallopt(ctypes.c_int(_M_TRIM_THRESHOLD), ctypes.c_int(_KEPT)))


def watch_init() -> int | None:
    """A new inotify descriptor, or None where there are none (any more)."""
    if not LINUX or not hasattr(_libc, "inotify_init1"):
        return None
    # SAFETY: a plain number; IN_CLOEXEC and IN_NONBLOCK are O_CLOEXEC and O_NONBLOCK.
    number: int = _libc.inotify_init1(ctypes.c_int(os.O_CLOEXEC | os.O_NONBLOCK))
    return number if number >= 0 else None


def watch_add(watcher: int, descriptor: int, mask: int) -> int:
    """Watch the inode of a descriptor; the number of the watch.

    Raises:
        OSError: ENOSPC when there are too many.
    """
    path = f"{PROC}{descriptor}".encode()
    # SAFETY: the path ends with NUL and outlives the call.
    number: int = _libc.inotify_add_watch(
        ctypes.c_int(watcher), ctypes.c_char_p(path), ctypes.c_uint32(mask)
    )
    if number < 0:
        raise _failed()
    return number


def watch_remove(watcher: int, number: int) -> None:
    """Watch it no more; one that is gone is no error."""
    # SAFETY: plain numbers.
    _libc.inotify_rm_watch(ctypes.c_int(watcher), ctypes.c_int(number))
