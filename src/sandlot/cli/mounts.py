"""`-v`, `--mount` and `--tmpfs`: what is mounted in a sandbox, in Docker's words."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import click

from sandlot.errors import ConfigError

F = TypeVar("F", bound=Callable[..., Any])

_FORM = "use -v HOST_PATH:/path, -v NAME:/path or -v /path, with :ro at the end for reading only"
_CACHES = ("coherent", "fast", "none")
# What Docker's users write and means nothing here: labels of SELinux, and how a Mac's disk is shared.
_NOTHING = {"z", "Z", "cached", "delegated", "consistent", "nocopy"}


def volume_options(function: F) -> F:
    """-v, --mount and --tmpfs."""
    for option in (
        click.option(
            "--tmpfs", multiple=True, metavar="PATH[:size=SIZE]",
            help="Mount an empty file system in this machine's memory.",
        ),
        click.option(
            "--mount", multiple=True, metavar="KEY=VALUE,...",
            help="As -v, in words: type=bind|volume|tmpfs,source=,target=,readonly,cache=.",
        ),
        click.option(
            "-v", "--volume", multiple=True, metavar="[SOURCE:]PATH[:OPTIONS]",
            help="Mount a folder or file of the host (./src), a named volume (data), or a new one "
            "of the sandbox's own; options are ro and cache=coherent|fast|none.",
        ),
    ):  # fmt: skip
        function = option(function)
    return function


def volumes_of(options: dict[str, Any]) -> dict[str, Any]:
    """The flags of `volume_options` as `volumes=` of a sandbox.

    Raises:
        ConfigError: one is written in another way, or a folder of the host is missing.
    """
    texts = [*options["volume"], *options["mount"], *options["tmpfs"]]
    if not texts:
        return {}
    found: dict[str, Any] = {}
    parsers: tuple[tuple[Iterable[str], Callable[[str], tuple[str, Any]]], ...] = (
        (options["volume"], _volume), (options["mount"], _mount), (options["tmpfs"], _tmpfs),
    )  # fmt: skip
    for given, parse in parsers:
        for text in given:
            path, what = parse(text)
            if path in found:
                raise ConfigError(f"two volumes are mounted at {path}", hint="leave one out")
            found[path] = what
    return found


def _volume(text: str) -> tuple[str, Any]:
    parts = text.split(":")
    if len(parts) > 3 or not all(parts):
        raise ConfigError(f"-v {text!r} is not a volume", hint=_FORM)
    if len(parts) == 1:
        source, (path,), words = "", parts, ""
    else:
        source, path, words = parts[0], parts[1], ":".join(parts[2:])
    if not path.startswith("/"):
        raise ConfigError(f"-v {text!r}: {path} is not an absolute path of the sandbox", hint=_FORM)
    readonly, cache = False, ""
    for word in filter(None, words.split(",")):
        key, equals, value = word.partition("=")
        if word in ("ro", "rw"):
            if {"ro", "rw"} <= set(words.split(",")):
                raise ConfigError(f"-v {text!r}: it is either ro or rw", hint=_FORM)
            readonly = word == "ro"
        elif key == "cache" and equals:
            cache = value
        elif word not in _NOTHING:
            raise ConfigError(
                f"-v {text!r}: the option {word!r} is not known",
                hint="use ro, rw and cache=coherent|fast|none",
            )
    return path, _source(source, readonly, cache)


def _source(source: str, readonly: bool, cache: str) -> Any:
    if cache and cache not in _CACHES:
        raise ConfigError(f"no cache {cache!r} of a volume", hint=f"one of {', '.join(_CACHES)}")
    if source[:1] in ("/", ".", "~") and source:
        return _host(source, readonly, cache)
    from sandlot.volume.declared import NamedVolume

    return NamedVolume(source, readonly, cache or "coherent")


def _host(source: str, readonly: bool, cache: str) -> Any:
    import shlex
    from pathlib import Path

    from sandlot.filesystem.host.hostfs import HostFs

    path = Path(source).expanduser()
    if not path.exists():
        raise ConfigError(
            f"{source} does not exist on this machine",
            hint=f"make it first: `mkdir -p {shlex.quote(str(path))}`",
        )
    fs = HostFs(path, readonly, cache or "coherent")
    fs.check()
    return fs


_KEYS = {
    "src": "source", "dst": "target", "destination": "target", "ro": "readonly",
    "volume-nocopy": "nocopy", "consistency": "nocopy",
}  # fmt: skip
_KNOWN = ("type", "source", "target", "readonly", "cache", "nocopy", "tmpfs-size", "tmpfs-mode")


def _mount(text: str) -> tuple[str, Any]:
    said: dict[str, str] = {}
    for pair in text.split(","):
        key, _, value = pair.partition("=")
        key = _KEYS.get(key, key)
        if key not in _KNOWN:
            raise ConfigError(
                f"--mount {text!r}: {key!r} is not known",
                hint="use type=, source=, target=, readonly, cache=, tmpfs-size=, tmpfs-mode=",
            )
        said[key] = value
    kind, target, source = (
        said.get("type", "volume"),
        said.get("target", ""),
        said.get("source", ""),
    )
    if not target.startswith("/"):
        raise ConfigError(
            f"--mount {text!r} names no absolute target", hint="use target=/path/in/sandbox"
        )
    readonly = "readonly" in said and said["readonly"].lower() not in ("0", "false")
    if kind == "tmpfs":
        return target, _memory(text, said.get("tmpfs-size", ""), said.get("tmpfs-mode", ""))
    if kind == "bind":
        if not source:
            raise ConfigError(f"--mount {text!r} names no source", hint="use source=./folder")
        return target, _host(source, readonly, said.get("cache", ""))
    if kind != "volume":
        raise ConfigError(
            f"--mount {text!r}: no type {kind!r}", hint="use type=bind, volume or tmpfs"
        )
    if source[:1] in ("/", ".", "~") and source:
        raise ConfigError(
            f"--mount {text!r}: {source} is a path, not the name of a volume", hint="use type=bind"
        )
    return target, _source(source, readonly, said.get("cache", ""))


def _tmpfs(text: str) -> tuple[str, Any]:
    path, _, words = text.partition(":")
    if not path.startswith("/"):
        raise ConfigError(
            f"--tmpfs {text!r} is not an absolute path", hint="use --tmpfs /path:size=64m"
        )
    size = mode = ""
    for word in filter(None, words.split(",")):
        key, _, value = word.partition("=")
        if key == "size":
            size = value
        elif key == "mode":
            mode = value
        elif word not in ("rw", "exec", "suid", "dev"):
            raise ConfigError(
                f"--tmpfs {text!r}: the option {word!r} cannot be honoured",
                hint="use size= and mode=",
            )
    return path, _memory(text, size, mode)


def _memory(text: str, size: str, mode: str) -> Any:
    from sandlot.sizes import parse_size
    from sandlot.volume.declared import Memory

    try:
        bits = int(mode, 8) if mode else 0o1777
    except ValueError:
        bits = -1
    if not 0 <= bits <= 0o7777:
        raise ConfigError(f"{text!r}: {mode!r} is not a mode", hint="use for example mode=1777")
    return Memory(parse_size(size, "size") if size else 0, bits)
