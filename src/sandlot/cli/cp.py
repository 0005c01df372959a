"""`sandlot cp`: files between the host and a sandbox, by Docker's rules."""

from __future__ import annotations

import asyncio
import os
import re
import stat
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sandlot.errors import ConfigError, FileError, FileNotFound, SandboxError

if TYPE_CHECKING:
    from sandlot.files.extract import Transfer
    from sandlot.files.files import Files

_FOLDER = "directory"


@dataclass(frozen=True)
class Side:
    """One of the two ends: a path, in a sandbox or (with no name) on the host."""

    name: str
    path: str

    @property
    def contents_only(self) -> bool:
        """`DIR/.`: what is in the folder, without the folder."""
        return self.path == "." or self.path.endswith("/.")

    @property
    def says_folder(self) -> bool:
        """Whether the path is written as a folder's."""
        return self.contents_only or self.path.endswith("/")


def side(text: str) -> Side:
    """`NAME:PATH` is in a sandbox; what has no colon, or begins with a slash or dot, is not."""
    name, colon, path = text.partition(":")
    if not colon or text.startswith(("/", ".")):
        return Side("", text)
    if not name or not path:
        raise ConfigError(f"{text!r} is not NAME:PATH", hint="write a local path as ./PATH")
    if path == "~" or path.startswith("~/"):
        raise ConfigError(
            f"{text!r}: ~ is not known there", hint="write the whole path, such as /root"
        )
    # As with Docker, paths in a sandbox begin at its root.
    return Side(name, re.sub("/+", "/", f"/{path}"))


def place(source: Side, kind: str, name: str, target: Side, there: str | None) -> str:
    """Where the copy goes: `kind` is the source's, `there` the target's, None when it is missing.

    Raises:
        ConfigError: the two do not go together.
    """
    if there == _FOLDER:
        if kind == _FOLDER and source.contents_only:
            return target.path
        return f"{target.path.rstrip('/')}/{name}"
    if there is not None and (kind == _FOLDER or target.says_folder):
        raise ConfigError(
            f"{target.path} is not a folder" + (", but the source is" if kind == _FOLDER else "")
        )
    if there is None and kind != _FOLDER and target.says_folder:
        raise ConfigError(f"the folder {target.path} does not exist", hint="make it first")
    return target.path.removesuffix("/.").rstrip("/") or target.path


def parent(path: str) -> str:
    """The folder that must exist."""
    return str(Path(path.rstrip("/") or "/").parent)


class Told:
    """What is said on standard error: progress after a second, and a line at the end."""

    def __init__(self, quiet: bool) -> None:
        from sandlot.cli.output import Progress

        self._quiet = quiet
        self._size = 0
        self._progress = Progress(delay=1.0) if not quiet and sys.stderr.isatty() else None

    def __call__(self, size: int) -> None:
        from sandlot.cli.output import human_size

        self._size = size
        if self._progress is not None:
            self._progress(f"copied {human_size(size)}")

    def done(self, done: Transfer, target: str) -> None:
        """The line at the end, and what was left out."""
        from sandlot.cli.output import human_size

        self.close()
        for name, why in list(done.skipped.items())[:20]:
            click.echo(f"sandlot: left out {_shown(name)}: {why}", err=True)
        if len(done.skipped) > 20:
            click.echo(f"sandlot: and {len(done.skipped) - 20} more", err=True)
        if any(why.startswith("a link") for why in done.skipped.values()):
            click.echo("hint: --links all copies every link as it is", err=True)
        if not self._quiet:
            files = f"{done.files} file{'' if done.files == 1 else 's'}"
            click.echo(f"copied {files}, {human_size(done.size)}, to {_shown(target)}", err=True)

    def stream_done(self, target: str) -> None:
        """The line at the end of a tar stream, whose files nobody counted."""
        from sandlot.cli.output import human_size

        self.close()
        if not self._quiet:
            click.echo(f"copied {human_size(self._size)} to {_shown(target)}", err=True)

    def close(self) -> None:
        """Take the progress away."""
        if self._progress is not None:
            self._progress.close()


def _shown(path: str) -> str:
    from sandlot.files.paths import shown

    return shown(path)


@click.command(
    epilog="Examples: sandlot cp ./src box:/app; sandlot cp box:/app/out .; "
    "tar c dir | sandlot cp - box:/tmp"
)
@click.option("-a", "--archive", is_flag=True, help="Keep user and group numbers.")
@click.option("-L", "--follow-link", is_flag=True, help="When SRC is a link, copy its target.")
@click.option("-q", "--quiet", is_flag=True, help="Say nothing when all goes well.")
@click.option(
    "--links", type=click.Choice(("inside", "all", "none")), default="inside", show_default=True,
    help="From a sandbox: links to copy. `inside` are those that lead nowhere outside the copy.",
)  # fmt: skip
@click.option(
    "--max-size", default="64G", show_default=True, help="From a sandbox: more is an error."
)
@click.option(
    "--max-files", default=1_000_000, show_default=True, help="From a sandbox: more is an error."
)
@click.argument("source", metavar="SRC")
@click.argument("target", metavar="DEST")
def cp(
    source: str, target: str, archive: bool, follow_link: bool, quiet: bool, links: str,
    max_size: str, max_files: int,
) -> None:  # fmt: skip
    """Copy a file or folder: NAME:PATH to the host, or a path of the host to NAME:PATH.

    A folder that exists is copied into, one that does not is made; SRC/. is what is in SRC. With -
    for one side, a tar stream is read from standard input or written to standard output.
    """
    one, other = side(source), side(target)
    if bool(one.name) == bool(other.name):
        raise ConfigError(
            "cp copies between the host and one sandbox",
            hint="write one side as NAME:PATH, and a local path with a colon as ./PATH",
        )
    told = Told(quiet)
    try:
        if one.name:
            from sandlot.sandbox.sizes import parse_size

            limit = parse_size(max_size, "--max-size")
            asyncio.run(
                _out(one, other, archive, follow_link, links, limit, max_files, told)
            )  # fmt: skip
        else:
            asyncio.run(_into(one, other, archive, follow_link, told))
    except SandboxError:
        raise
    except BrokenPipeError:
        raise
    except OSError as error:
        name = error.filename
        where = os.fsdecode(name) if isinstance(name, str | bytes) else source
        raise ConfigError(f"{_shown(where)}: {(error.strerror or str(error)).lower()}") from error
    finally:
        told.close()


async def _files(name: str) -> Files:
    from sandlot.files.files import Files
    from sandlot.sandbox.sandbox import Sandbox

    sandbox = await Sandbox.get(name)
    return Files(sandbox._session, workdir="/", user="0:0")


async def _kind(files: Files, path: str) -> str | None:
    try:
        return (await files.stat(path)).type
    except FileNotFound:
        return None


async def _into(source: Side, target: Side, archive: bool, follow: bool, told: Told) -> None:
    files = await _files(target.name)
    there = await _kind(files, target.path)
    if source.path == "-":
        if there != _FOLDER:
            raise ConfigError(f"{_shown(target.path)} is no folder of {target.name}")
        await files.put_archive(target.path, sys.stdin.buffer, owners=archive, progress=told)
        told.stream_done(f"{target.name}:{target.path}")
        return
    local = Path(source.path)
    found = local.stat() if follow or source.says_folder else local.lstat()
    kind = _host_kind(found)
    if source.says_folder and kind != _FOLDER:
        raise ConfigError(f"{_shown(source.path)} is not a folder")
    name = local.name if local.name not in ("", "..") else local.resolve().name
    place_ = place(source, kind, name, target, there)
    if there is None and await _kind(files, parent(place_)) != _FOLDER:
        raise FileNotFound(
            f"{_shown(parent(place_))} in the sandbox: no such folder",
            path=parent(place_),
            number=2,
            hint=f"make it first: `sandlot exec {target.name} mkdir -p DIR`",
        )
    if kind == "symlink":
        from sandlot.files.pack import Packer

        packer = Packer(str(local), name=os.fsencode(Path(place_).name), owners=archive)
        await files.put_archive(parent(place_), packer.pieces(), owners=archive)
        told.done(packer.done, f"{target.name}:{place_}")
        return
    if kind == "file" and await _kind(files, place_) == _FOLDER:
        raise ConfigError(f"{_shown(place_)} is a folder, but the source is not")
    done = await files.upload(local, place_, owners=archive, progress=told)
    told.done(done, f"{target.name}:{place_}")


def _host_kind(found: os.stat_result) -> str:
    if stat.S_ISDIR(found.st_mode):
        return _FOLDER
    if stat.S_ISREG(found.st_mode):
        return "file"
    if stat.S_ISLNK(found.st_mode):
        return "symlink"
    raise ConfigError("the source is neither a file nor a folder nor a link")


async def _out(
    source: Side, target: Side, archive: bool, follow: bool, links: str, max_size: int,
    max_files: int, told: Told,
) -> None:  # fmt: skip
    files = await _files(source.name)
    info = await files.stat(source.path, follow=follow or source.says_folder)
    if source.says_folder and not info.is_dir:
        raise ConfigError(f"{_shown(source.path)} is not a folder")
    name = "/" if source.path.strip("/") in ("", ".") else info.name
    if source.contents_only:
        name = source.path.removesuffix("/.").rstrip("/").rpartition("/")[2]
    if target.path == "-":
        await _to_stdout(files, source, name, follow, told)
        told.stream_done("standard output")
        return
    local = Path(target.path)
    there = _host_kind(local.stat()) if local.exists() else None
    if name in ("", "/"):
        source, name = Side(source.name, "/."), ""  # the root has no name
    place_ = place(source, info.type, name, target, there)
    if there is None and not Path(parent(place_)).is_dir():
        raise ConfigError(f"{_shown(parent(place_))}: no such folder")
    if info.type not in (_FOLDER, "file", "symlink"):
        raise FileError(
            f"{_shown(source.path)} is a {info.type}, which is not copied", path=source.path
        )
    if info.type != _FOLDER and Path(place_).is_dir():
        raise ConfigError(f"{_shown(place_)} is a folder, but the source is not")
    done = await files.download(
        source.path, place_, links="all" if info.is_symlink else links, owners=archive,
        follow=not info.is_symlink, max_size=max_size, max_files=max_files, progress=told,
    )  # fmt: skip
    told.done(done, place_)


async def _to_stdout(files: Files, source: Side, name: str, follow: bool, told: Told) -> None:
    if sys.stdout.isatty():
        raise ConfigError("a tar stream does not go to a terminal", hint="redirect it to a file")
    inner = "." if source.contents_only or not name.strip("/") else name
    size = 0
    async for data in files.get_archive(source.path, name=inner, follow=follow):
        await asyncio.to_thread(sys.stdout.buffer.write, data)
        told(size := size + len(data))
    sys.stdout.buffer.flush()
