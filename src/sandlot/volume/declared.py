"""What `volumes=` and a record say of volumes: a path, and what is mounted there.

A volume that says itself where it comes from (a host folder, a named volume) is *declared*: any
program can open it again. One that is an object of a program is *given*, and only that program, and
the children that it makes, have it.
"""

from __future__ import annotations

import posixpath
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sandlot.errors import ConfigError
from sandlot.filesystem.base import CACHES, FileSystem

if TYPE_CHECKING:
    from sandlot.volume.store import VolumeFolder

GIVEN = "given"
_RESERVED = ("/proc", "/sys", "/dev", "/run/sandlot")


def checked_path(path: object) -> str:
    """Where something can be mounted, in its plain form.

    Raises:
        ConfigError: it is no absolute path of a sandbox, or one that it needs itself.
    """
    if not isinstance(path, str) or not path.startswith("/") or "\0" in path:
        raise ConfigError(
            f"volume path {path!r} is not an absolute path of the sandbox",
            hint='use for example volumes={"/data": "named-volume"}',
        )
    plain = posixpath.normpath("/" + path.lstrip("/"))
    if ".." in path.split("/") or plain == "/":
        raise ConfigError(f"volume path {path!r} cannot be mounted on", hint="use another path")
    for reserved in _RESERVED:
        if plain == reserved or plain.startswith(reserved + "/"):
            raise ConfigError(f"volume path {path!r} is the sandbox's own", hint="use another path")
    return plain


def declared(volumes: object) -> tuple[list[dict[str, Any]], dict[str, FileSystem]]:
    """From what a user gives to a record's list, and the objects among it.

    Args:
        volumes: paths to file systems, names of volumes, or host folders (a `Path`, or text that
            begins with `/`, `.` or `~`).

    Raises:
        ConfigError: one is wrong.
    """
    if volumes is None:
        return [], {}
    if not isinstance(volumes, Mapping):
        raise ConfigError(
            f"volumes is {type(volumes).__name__}, not a mapping of paths",
            hint='use volumes={"/app": HostFs("./src"), "/data": "named-volume"}',
        )
    records: list[dict[str, Any]] = []
    objects: dict[str, FileSystem] = {}
    for path, what in volumes.items():
        plain = checked_path(path)
        if any(each["path"] == plain for each in records):
            raise ConfigError(f"two volumes are mounted at {plain}", hint="leave one out")
        fs = _file_system(what, plain)
        if isinstance(fs, FileSystem):
            objects[plain] = fs
            records.append({"path": plain, **_declaration(fs)})
        else:
            records.append({"path": plain, **fs})
    return records, objects


def _file_system(what: object, path: str) -> FileSystem | dict[str, Any]:
    if isinstance(what, FileSystem):
        return what
    if isinstance(what, Path):
        return _host(str(what))
    if isinstance(what, Declaration):
        return what.declaration()
    if not isinstance(what, str) or not what:
        raise ConfigError(
            f"the volume at {path} is {type(what).__name__}, not a file system",
            hint='use HostFs("./src"), MemFs(), or the name of a volume',
        )
    if what[0] in "/.~":
        return _host(what)
    return NamedVolume(what).declaration()


def _declaration(fs: FileSystem) -> dict[str, Any]:
    """How any program can open it again. One of a user's own class is only that program's, though
    it may inherit a declaration: another program would do without what the class adds."""
    known = type(fs).__module__.partition(".")[0] == "sandlot"
    given = {"kind": GIVEN, "what": str(fs), **({"held": fs.held} if fs.held else {})}
    return (fs.declaration() if known else None) or given


def _host(path: str) -> FileSystem:
    from sandlot.filesystem.host.hostfs import HostFs

    fs = HostFs(Path(path).expanduser())
    fs.check()  # what is wrong is told now, rather than when the machine is up
    return fs


class Declaration(ABC):
    """What a record can say of a volume, without an object of this program."""

    @abstractmethod
    def declaration(self) -> dict[str, Any]:
        """As JSON, with a `kind`."""


@dataclass(frozen=True)
class NamedVolume(Declaration):
    """A named volume, with how it is mounted; its name alone is the same as `NamedVolume(name)`.

        volumes={"/data": NamedVolume("data", readonly=True)}

    Args:
        name: of the volume; one that does not exist is made on first use. Empty for a volume of
            the sandbox's own, which is named by a number and goes with it when the sandbox is one
            that is removed at its end.
        readonly: the guest cannot change anything.
        cache: `coherent`, `fast` (for one sandbox alone), or `none`.
    """

    name: str = ""
    readonly: bool = False
    cache: str = "coherent"

    def declaration(self) -> dict[str, Any]:
        """As it stands in a record; the volume is made if it does not exist."""
        if self.cache not in CACHES:
            raise ConfigError(
                f"no cache {self.cache!r} of a volume", hint=f"one of {', '.join(CACHES)}"
            )
        from sandlot.volume.store import DISK, VolumeStore

        store = VolumeStore.current()
        folder = store.for_use(self.name) if self.name else store.anonymous()
        if self.cache != "coherent" and folder.record().kind == DISK:
            raise ConfigError(
                f"the volume {self.name} is a disk, which the sandbox's kernel alone caches: "
                f"cache={self.cache!r} is not for it",
                hint="leave cache= out",
            )
        return {
            "kind": "named", "name": folder.name, "readonly": self.readonly, "cache": self.cache,
            **({} if self.name else {"anonymous": True}),
        }  # fmt: skip


@dataclass(frozen=True)
class Memory(Declaration):
    """A file system in the memory of whatever program runs the sandbox, empty at each start."""

    size: int = 0
    mode: int = 0o1777

    def declaration(self) -> dict[str, Any]:
        return {"kind": "memory", "size": self.size, "mode": self.mode}


def opened(
    record: list[dict[str, Any]], objects: Mapping[str, FileSystem]
) -> dict[str, FileSystem]:
    """The file systems of a record's volumes.

    Raises:
        ConfigError: one is not there, or has to be given again.
    """
    found: dict[str, FileSystem] = {}
    for each in record:
        path = each["path"]
        if path in objects:
            found[path] = objects[path]
        elif each["kind"] != GIVEN:
            if _disk(each) is None:
                found[path] = _open(each)
        else:
            raise ConfigError(
                f"the volume at {path} is an object of the program that made the sandbox",
                hint=f'give it again: volumes={{"{path}": ...}}',
            )
    return found


def disks(record: list[dict[str, Any]]) -> dict[str, tuple[VolumeFolder, bool]]:
    """Those of a record's volumes that are disks, by their paths, and whether they are only read."""
    found = {each["path"]: (_disk(each), bool(each.get("readonly"))) for each in record}
    return {path: (disk, readonly) for path, (disk, readonly) in found.items() if disk is not None}


def _disk(each: Mapping[str, Any]) -> VolumeFolder | None:
    if each["kind"] != "named":
        return None
    from sandlot.volume.store import DISK, VolumeStore

    folder = VolumeStore.current().for_use(each["name"], anonymous=each.get("anonymous", False))
    return folder if folder.record().kind == DISK else None


def _open(each: Mapping[str, Any]) -> FileSystem:
    """What a record declares.

    Raises:
        ConfigError: it is not there.
    """
    if each["kind"] == "host":
        from sandlot.filesystem.host.hostfs import HostFs

        owner = (each["owner"][0], each["owner"][1]) if each["owner"] else None
        host = HostFs(each["source"], each["readonly"], each["cache"], owner=owner)
        host.check()
        return host
    if each["kind"] == "named":
        from sandlot.volume.named import named_fs
        from sandlot.volume.store import VolumeStore

        folder = VolumeStore.current().for_use(each["name"], anonymous=each.get("anonymous", False))
        return named_fs(folder, folder.record().size, each["readonly"], each["cache"])
    if each["kind"] == "memory":
        from sandlot.filesystem.memory.memfs import MemFs

        return MemFs(each["size"] or None, mode=each["mode"])
    raise ConfigError(
        f"the volume at {each['path']} is of a kind that this version does not know: "
        f"{each['kind']!r}"
    )
