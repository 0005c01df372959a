"""Digests: `sha256:` and 64 hexadecimal digits. Pure."""

from __future__ import annotations

import hashlib
import re
from typing import Any, BinaryIO, cast

from sandlot.errors import ImageError

_DIGEST = re.compile("sha256:[0-9a-f]{64}")


def is_digest(text: str) -> bool:
    """Whether `text` is a digest that Sandlot can verify.

    >>> is_digest("sha256:" + 64 * "0")
    True
    """
    return _DIGEST.fullmatch(text) is not None


def check_digest(text: object) -> str:
    """`text` itself. Raises ImageError when it is no digest that Sandlot can verify."""
    if not isinstance(text, str) or not is_digest(text):
        raise ImageError(
            f"{str(text)[:100]!r} is no sha256 digest", hint="other algorithms are not supported"
        )
    return text


def digest_of(data: bytes | bytearray) -> str:
    """The digest of some bytes."""
    return "sha256:" + hashlib.sha256(data).hexdigest()


def digest_of_file(file: BinaryIO) -> str:
    """The digest of all of a file."""
    file.seek(0)
    return "sha256:" + hashlib.file_digest(cast("Any", file), "sha256").hexdigest()
