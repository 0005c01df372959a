"""Where a remote is, as people write it. Pure.

/mnt/team, ./here, ~/sandboxes, file:///mnt/team      a folder
s3://bucket/prefix[?endpoint=https://host:port]       S3 and what speaks its protocol
oci://registry.example.com/team/sandboxes             a repository of a registry
ssh://[user@]host[:port]/path                         a folder behind SSH; /~/path: in the home
"""

from __future__ import annotations

import re
import urllib.parse
from dataclasses import dataclass
from typing import Literal

from sandlot.errors import ConfigError
from sandlot.remote.store import MAX_KEY

Kind = Literal["folder", "s3", "oci", "ssh"]

MAX_ADDRESS = 2000
_BUCKET = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9._-]{1,62}")
_PREFIX = re.compile(r"[a-zA-Z0-9._/=-]*")
_HOST = re.compile(r"\[[0-9a-fA-F:.]+\]|[a-zA-Z0-9_](?:[a-zA-Z0-9._-]*[a-zA-Z0-9_])?")
_REPOSITORY = re.compile(r"[a-z0-9]+(?:[._-]+[a-z0-9]+)*(?:/[a-z0-9]+(?:[._-]+[a-z0-9]+)*)*")
_USER = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9._@+-]*")
_ENDPOINT = re.compile(r"https?://(?:\[[0-9a-fA-F:.]+\]|[a-zA-Z0-9._-]+)(?::[0-9]{1,5})?/?")
_EXAMPLES = "use a folder, s3://bucket/prefix, oci://registry/repository or ssh://user@host/path"


@dataclass(frozen=True, slots=True)
class Address:
    """A remote's address in its parts; `str()` gives it as it is written.

    `host` is the bucket, the registry, or the machine; `path` the folder, prefix or repository.
    """

    kind: Kind
    path: str
    host: str = ""
    user: str | None = None
    port: int | None = None
    endpoint: str = ""

    def __str__(self) -> str:
        match self.kind:
            case "folder":
                return self.path
            case "ssh":
                user, port = (
                    f"{self.user}@" if self.user else "",
                    f":{self.port}" if self.port else "",
                )
                host = f"[{self.host}]" if ":" in self.host else self.host
                return f"ssh://{user}{host}{port}/{self.path.lstrip('/')}"
            case _:
                query = f"?endpoint={self.endpoint}" if self.endpoint else ""
                return f"{self.kind}://{self.host}/{self.path}".rstrip("/") + query


def is_address(text: str) -> bool:
    """Whether a text is an address, rather than the name of a remote."""
    return "/" in text or text.startswith(("~", "."))


def parse_address(text: str, endpoint: str = "") -> Address:
    """An address in its parts. Raises ConfigError, which names what is wrong.

    Args:
        endpoint: the server of an `s3://` address, as with `?endpoint=`.
    """
    if not text or len(text) > MAX_ADDRESS or not text.isprintable():
        raise ConfigError(f"{text[:100]!r} is not the address of a remote", hint=_EXAMPLES)
    scheme, colon, rest = text.partition("://")
    if endpoint and scheme != "s3":
        raise ConfigError(f"{_shown(text)} has no endpoint", hint="only s3:// addresses have one")
    if not colon:
        return Address("folder", text)
    match scheme:
        case "file":
            host, slash, path = rest.partition("/")
            if host not in ("", "localhost") or not slash:
                raise _wrong(text, "names a folder of another machine", "use file:///folder")
            return Address("folder", "/" + urllib.parse.unquote(path))
        case "s3":
            return _s3(text, rest, endpoint)
        case "oci":
            return _oci(text, rest)
        case "ssh" | "sftp":
            return _ssh(text, rest)
    raise _wrong(text, f"has an unknown beginning {scheme[:20]}://", _EXAMPLES)


def _s3(text: str, rest: str, endpoint: str) -> Address:
    where, _, query = rest.partition("?")
    bucket, _, prefix = where.partition("/")
    prefix = prefix.strip("/")
    for name, value in urllib.parse.parse_qsl(query, keep_blank_values=True):
        if name != "endpoint":
            raise _wrong(text, f"has an unknown option {name[:30]!r}", "there is ?endpoint=")
        endpoint = endpoint or value
    if not _BUCKET.fullmatch(bucket):
        raise _wrong(text, "names no bucket", "use s3://bucket/prefix")
    if not _PREFIX.fullmatch(prefix) or "//" in prefix or len(prefix) > MAX_KEY:
        raise _wrong(text, "has a prefix that is not of a-z A-Z 0-9 . _ = - /", "")
    if any(part in (".", "..") for part in prefix.split("/")):
        raise _wrong(text, "has a prefix with . or .. in it", "")
    if endpoint and not _ENDPOINT.fullmatch(endpoint):
        raise _wrong(text, f"has an endpoint {endpoint[:100]!r}", "use https://host:port")
    return Address("s3", prefix, bucket, endpoint=endpoint.rstrip("/"))


def _oci(text: str, rest: str) -> Address:
    host, _, repository = rest.partition("/")
    name, _, port = host.partition(":") if not host.startswith("[") else host.rpartition("]:")
    if not _HOST.fullmatch(f"{name}]" if host.startswith("[") and port else name or host):
        raise _wrong(text, "names no registry", "use oci://registry.example.com/team/sandboxes")
    if port and not (port.isdecimal() and 0 < int(port) < 65536):
        raise _wrong(text, "has no port that can be", "")
    repository = repository.strip("/")
    if not _REPOSITORY.fullmatch(repository) or len(repository) > 255:
        raise _wrong(
            text, "names no repository", "use oci://registry.example.com/team/sandboxes, no tag"
        )
    return Address("oci", repository, host)


def _ssh(text: str, rest: str) -> Address:
    where, slash, path = rest.partition("/")
    user, at, host = where.rpartition("@")
    if at and ":" in user:
        raise _wrong(text, "has a password in it", "use a key: see `ssh-copy-id`")
    if at and not _USER.fullmatch(user):
        raise _wrong(text, "has a user that cannot be", "")
    match = re.fullmatch(r"(\[[^\]]*\]|[^:]*)(?::([0-9]{1,5}))?", host)
    if match is None or not _HOST.fullmatch(match[1]):
        raise _wrong(text, "names no host", "use ssh://user@host/path")
    port = int(match[2]) if match[2] else None
    if port is not None and not 0 < port < 65536:
        raise _wrong(text, "has no port that can be", "")
    if not slash or not path.strip("/"):
        raise _wrong(text, "names no folder", "use ssh://user@host/path, or /~/path below the home")
    path = urllib.parse.unquote(path).rstrip("/")
    return Address(
        "ssh",
        path if path.startswith("~/") else f"/{path}",
        match[1].strip("[]"),
        user or None,
        port,
    )


def _shown(text: str) -> str:
    """An address without a password that somebody put into it."""
    return re.sub(r"//[^/@]*@", "//…@", text)[:200]


def _wrong(text: str, what: str, hint: str) -> ConfigError:
    return ConfigError(f"the address {_shown(text)!r} {what}", hint=hint)
