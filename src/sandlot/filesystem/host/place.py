"""Where a volume is on the host: whether it may be one, and the descriptor of its root."""

from __future__ import annotations

import contextlib
import os
import resource
import stat
from dataclasses import dataclass
from pathlib import Path

from sandlot.errors import ConfigError
from sandlot.filesystem.host import syscalls
from sandlot.filesystem.host.syscalls import O_PATH
from sandlot.filesystem.host.tree import Descriptor, Key, Tree
from sandlot.settings import Settings

VOLUMES = "volumes"
"""The part of Sandlot's data that may be mounted: where named volumes are."""
MOST_FOLDERS = 4096
_OF_FOLDERS = 4  # a quarter of what may be open is for folders
_KEPT_BACK = 8  # an eighth is not for guests, who would keep this program from opening anything


@dataclass(frozen=True)
class Place:
    """An opened root."""

    tree: Tree
    remote: bool
    """Whether every call may wait for another machine or program."""


def raise_limit() -> int:
    """Let this program have as many files open as it may; how many that is."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        for wanted in (hard, 65536, 10240):  # macOS says infinity, and grants less
            if soft != resource.RLIM_INFINITY and 0 <= wanted <= soft:
                break
            with contextlib.suppress(ValueError, OSError):
                resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
                soft = wanted
                break
    return soft if soft != resource.RLIM_INFINITY else 1 << 20


def open_place(path: str, *, readonly: bool) -> Place:
    """Open a host folder or file as the root of a volume.

    Raises:
        ConfigError: it is not there, is neither, must not be mounted, or cannot be read.
    """
    try:
        real = os.path.realpath(path, strict=True)
        st = os.stat(real)
    except FileNotFoundError:
        raise ConfigError(
            f"the volume's folder {path} does not exist", hint="make it first, or mend the path"
        ) from None
    except (OSError, ValueError) as error:
        raise _unusable(path, error) from None
    folder = stat.S_ISDIR(st.st_mode)
    if not folder and not stat.S_ISREG(st.st_mode):
        raise ConfigError(
            f"the volume {path} is neither a folder nor a file", hint="mount the folder it is in"
        )
    hidden = _refuse_state(path, real, readonly=readonly)
    above, name = os.path.split(real)
    try:
        parent = Descriptor(os.open(above, O_PATH | os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
        flags = O_PATH | os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
        root = Descriptor(os.open(name or ".", flags, dir_fd=parent.number))
        again = os.fstat(root.number)
        if (again.st_dev, again.st_ino) != (st.st_dev, st.st_ino):
            raise OSError("it was replaced just now")
        if not os.access(real, os.R_OK | (os.X_OK if folder else 0)):
            raise PermissionError("this user may not read it")
        if not readonly and not os.access(real, os.W_OK):
            raise ConfigError(
                f"the volume {path} cannot be written by this user",
                hint="mount it read-only (`readonly=True`, `:ro`), or change who owns it",
            )
    except OSError as error:
        raise _unusable(path, error) from None
    limit = raise_limit()
    Descriptor.most = limit - limit // _KEPT_BACK
    most = max(16, min(MOST_FOLDERS, limit // _OF_FOLDERS))
    tree = Tree(root, reopen=(parent, name), folders=most)
    tree.hidden = hidden
    return Place(tree, syscalls.is_remote(root.number))


def _unusable(path: str, error: OSError | ValueError) -> ConfigError:
    why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return ConfigError(
        f"the volume {path} cannot be opened: {why}", hint="check who may read it on the host"
    )


def _refuse_state(path: str, real: str, *, readonly: bool) -> frozenset[Key]:
    """Keep Sandlot's own state out of guests: a folder that has it is refused or, where the guest
    only reads, the state is hidden in it. Returns what is to be hidden."""
    settings = Settings.read()
    here = Path(real)
    hidden = set()
    for state in (settings.data, settings.runtime):
        own = Path(os.path.realpath(state))
        inside = here.is_relative_to(own) and (own / VOLUMES) not in here.parents
        if inside:
            raise ConfigError(
                f"the volume {path} is Sandlot's own state",
                hint="mount another folder; named volumes are mounted by their names",
            )
        if own.is_relative_to(here):
            if not readonly:
                raise ConfigError(
                    f"the volume {path} has Sandlot's own state in it ({own})",
                    hint="mount a folder below it, or mount it read-only",
                )
            with contextlib.suppress(OSError):
                st = own.stat()
                hidden.add((st.st_dev, st.st_ino))
    if here == Path("/") and not readonly:
        raise ConfigError(
            "the host's whole file system cannot be a volume that is written",
            hint="mount a folder below `/`, or mount it read-only",
        )
    return frozenset(hidden)
