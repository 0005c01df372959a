"""Paths in a guest: any bytes but NUL. As text, what is not UTF-8 becomes surrogates."""

from __future__ import annotations

import os

from sandlot.errors import ConfigError

Path = str | bytes | os.PathLike[str]
MAX_PATH = 32 * 1024  # bytes; the kernel takes 4096 at once, walking deeper is the agent's affair


def to_bytes(path: object, what: str = "path") -> bytes:
    """A path for the guest.

    Raises:
        ConfigError: empty, not a path, or with a NUL character.
    """
    if not isinstance(path, str | bytes | os.PathLike):
        raise ConfigError(f"the {what} is {type(path).__name__}, not text or bytes")
    raw = os.fspath(path)
    data = raw.encode(errors="surrogateescape") if isinstance(raw, str) else bytes(raw)
    if not data:
        raise ConfigError(f"the {what} is empty")
    if b"\0" in data:
        raise ConfigError(f"the {what} {raw!r} contains a NUL character")
    if len(data) > MAX_PATH:
        raise ConfigError(f"the {what} is longer than {MAX_PATH} bytes")
    return data


def to_text(path: bytes) -> str:
    """A guest's path as text that `to_bytes` turns back into the same bytes."""
    return path.decode(errors="surrogateescape")


def shown(path: bytes | str) -> str:
    """A path for one line of a message."""
    text = path.decode(errors="replace") if isinstance(path, bytes) else path
    text = "".join(c if c.isprintable() else "?" for c in text[:1000])
    return text if len(text) <= 200 else f"{text[:99]}...{text[-98:]}"


def join(folder: str, name: bytes) -> str:
    """A name below a folder."""
    return f"{folder.rstrip('/')}/{to_text(name)}" if name else folder
