"""Which package archive to take: what this host's own apt is told, as far as it is Debian's.

Source: `sources.list(5)`, the one-line and the deb822 form.
"""

from __future__ import annotations

import re
import shlex
import urllib.parse
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from sandlot.errors import ConfigError, HostError

if TYPE_CHECKING:
    from collections.abc import Iterator

_COMPONENTS = {
    "main", "contrib", "non-free", "non-free-firmware", "restricted", "universe", "multiverse",
}  # fmt: skip
_POCKETS = ("", "-updates", "-security", "/updates")
# The folder names that the two distributions' archives and their mirrors have in common.
_ARCHIVE = re.compile(r"/(debian|debian-security|ubuntu|ubuntu-ports)(/\d{8}T\d{6}Z)?(/dists)?/?$")
_OPTIONS = {
    "signed-by": "Signed-By",
    "trusted": "Trusted",
    "check-valid-until": "Check-Valid-Until",
}


@dataclass(frozen=True)
class Source:
    """One archive, suite and set of components; `options` are deb822 fields such as Signed-By."""

    uri: str
    suite: str
    components: tuple[str, ...]
    options: tuple[tuple[str, str], ...] = ()

    def deb822(self) -> str:
        """This source as a deb822 stanza."""
        lines = [
            "Types: deb",
            f"URIs: {self.uri}",
            f"Suites: {self.suite}",
            f"Components: {' '.join(self.components)}",
        ]
        lines += [f"{name}: {value}" for name, value in self.options]
        return "\n".join(lines) + "\n"

    def without_secrets(self) -> Source:
        """The same without a user and password in its address."""
        parts = urllib.parse.urlsplit(self.uri)
        if "@" not in parts.netloc:
            return self
        bare = parts._replace(netloc=parts.netloc.rpartition("@")[2])
        return replace(self, uri=urllib.parse.urlunsplit(bare))


def choose_sources(
    suite: str | None, mirror: str | None, *, etc: Path = Path("/etc")
) -> tuple[str, list[Source]]:
    """The suite's name and the sources for a build, from the arguments or else from the host.

    A `mirror` given stands alone. Without one the host's entries are taken, and turned to
    `suite` when that is another one. Raises HostError when the host has none.
    """
    for what, value in (("suite", suite), ("mirror", mirror)):
        if value is not None and not re.fullmatch(r"[A-Za-z0-9][^\s\x00-\x1f\x7f]*", value):
            raise ConfigError(f"{what} {value!r} is malformed")
    codename = host_codename(etc)
    wanted = suite or codename
    if wanted is None:
        raise HostError("this host is not Debian or Ubuntu", hint="name the suite and the mirror")
    if mirror is not None:
        return wanted, [Source(mirror, wanted, ("main",))]
    found = host_sources(codename, etc=etc) if codename else []
    if wanted != codename:
        found = _turned(found, codename or "", wanted)
    if not found:
        raise HostError(
            f"this host's apt configuration names no archive for `{wanted}`",
            hint="name the mirror",
        )
    return wanted, found


def host_codename(etc: Path = Path("/etc")) -> str | None:
    """`VERSION_CODENAME` of a Debian or Ubuntu host, else None."""
    try:
        text = (etc / "os-release").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    fields = {}
    for line in text.splitlines():
        name, separator, value = line.partition("=")
        if separator:
            fields[name.strip()] = value.strip().strip("\"'")
    if {"debian", "ubuntu"} & {fields.get("ID"), *fields.get("ID_LIKE", "").split()}:
        # A derivative of Ubuntu has a codename of its own.
        return fields.get("UBUNTU_CODENAME") or fields.get("VERSION_CODENAME") or "sid"
    return None


def host_sources(codename: str, *, etc: Path = Path("/etc")) -> list[Source]:
    """The host's entries for its own release; third parties, backports and sources left out."""
    folder = etc / "apt" / "sources.list.d"
    files = [etc / "apt" / "sources.list"]
    if folder.is_dir():
        files += sorted([*folder.glob("*.list"), *folder.glob("*.sources")])
    found: dict[Source, None] = {}
    for file in files:
        try:
            text = file.read_text(encoding="utf-8", errors="replace")
        except OSError:
            continue
        parse = parse_deb822 if file.suffix == ".sources" else parse_one_line
        for source in parse(text):
            if _is_ours(source, codename):
                found[source] = None
    return list(found)


def parse_one_line(text: str) -> Iterator[Source]:
    """The `deb` entries of a one-line style file; lines that are malformed are left out."""
    for line in text.splitlines():
        match = re.match(r"\s*deb\s+(?:\[([^\]]*)\]\s*)?(\S+)\s+(\S+)((?:\s+[^#\s]+)*)", line)
        if match is None:
            continue
        options = {}
        for option in shlex.split(match[1] or "", posix=False):
            name, _, value = option.partition("=")
            if name.lower() in _OPTIONS:
                options[_OPTIONS[name.lower()]] = value
        yield Source(match[2], match[3], tuple(match[4].split()), tuple(sorted(options.items())))


def parse_deb822(text: str) -> Iterator[Source]:
    """The entries of a deb822 style file, one for each address and suite."""
    for stanza in re.split(r"\n[ \t]*\n", text.replace("\r\n", "\n")):
        fields: dict[str, str] = {}
        name = ""
        for line in stanza.splitlines():
            if line.startswith("#"):
                continue
            if line[:1] in " \t" and name:
                fields[name] += "\n" + line  # an embedded key keeps its lines
            elif ":" in line:
                name, _, value = line.partition(":")
                name = name.strip().lower()
                fields[name] = value.strip()
        if "deb" not in fields.get("types", "").split():
            continue
        if fields.get("enabled", "yes").lower() in ("no", "false", "0", "off", "without"):
            continue
        options = tuple(
            sorted((proper, fields[name]) for name, proper in _OPTIONS.items() if name in fields)
        )
        for uri in fields.get("uris", "").split():
            for suite in fields.get("suites", "").split():
                yield Source(uri, suite, tuple(fields.get("components", "").split()), options)


def _is_ours(source: Source, codename: str) -> bool:
    names = {codename + pocket for pocket in _POCKETS}
    if codename == "sid":
        names.add("unstable")
    if source.suite not in names or not set(source.components) <= _COMPONENTS:
        return False
    if source.uri.startswith("cdrom:"):
        return False
    key = dict(source.options).get("Signed-By", "")
    if key.startswith("/"):
        return bool(re.search(r"(debian|ubuntu)-(archive|ports)[^/]*$", key))
    path = urllib.parse.urlsplit(source.uri).path
    return bool(_ARCHIVE.search(path)) or source.uri.startswith("mirror+file:")


def _turned(sources: list[Source], codename: str, suite: str) -> list[Source]:
    turned: dict[Source, None] = {}
    for source in sources:
        pocket = source.suite.removeprefix(codename)
        if suite in ("sid", "unstable") and pocket:
            continue  # it has no pockets
        turned[replace(source, suite=suite + pocket)] = None
    return list(turned)
