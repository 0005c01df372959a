"""Names of images, read as Docker reads them. Pure.

Source: `reference/normalize.go` and `reference/regexp.go` of the distribution project.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace

from sandlot.errors import ConfigError
from sandlot.image.digest import is_digest

DEFAULT_REGISTRY = "docker.io"
DEFAULT_TAG = "latest"
MAX_NAME = 255  # characters of registry and repository
ALIKE = 0.75  # of 1: names that differ by a slip of the fingers

_OFFICIAL = "library/"
_OLD_DEFAULT_REGISTRY = "index.docker.io"

_LABEL = "(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
_REGISTRY = re.compile(rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[a-fA-F0-9:]+\])(?::[0-9]{{1,5}})?")
_PART = "[a-z0-9]+(?:(?:[.]|_|__|-+)[a-z0-9]+)*"
_REPOSITORY = re.compile(rf"{_PART}(?:/{_PART})*")
_TAG = re.compile("[a-zA-Z0-9_][a-zA-Z0-9_.-]{0,127}")
_IDENTIFIER = re.compile("[a-f0-9]{64}")


@dataclass(frozen=True)
class Reference:
    """Registry, repository, and which image in it: a tag, a digest, or both.

    >>> ref = Reference.parse("python:3.12")
    >>> ref.registry, ref.repository, ref.tag, ref.digest
    ('docker.io', 'library/python', '3.12', '')
    >>> str(ref), ref.familiar
    ('docker.io/library/python:3.12', 'python:3.12')
    >>> str(Reference.parse("localhost:5000/x"))
    'localhost:5000/x:latest'
    """

    registry: str
    repository: str
    tag: str = ""
    digest: str = ""

    @classmethod
    def parse(cls, text: str) -> Reference:
        """What a user wrote, completed: default registry, `library/`, tag `latest`.

        Raises ConfigError when it cannot name an image.
        """
        if _IDENTIFIER.fullmatch(text):
            raise _wrong(text, "64 hexadecimal digits are an image's id, not a name")
        name, _, digest = text.partition("@")
        if digest and not is_digest(digest):
            raise _wrong(text, "after `@` there must be `sha256:` and 64 hexadecimal digits")
        if "@" in text and not digest:
            raise _wrong(text, "the digest after `@` is missing")
        first, slash, rest = name.partition("/")
        if slash and _names_registry(first):
            registry, name = first, rest
            if registry == _OLD_DEFAULT_REGISTRY:
                registry = DEFAULT_REGISTRY
        else:
            registry = DEFAULT_REGISTRY
        name, colon, tag = name.partition(":")
        if colon and not _TAG.fullmatch(tag):
            raise _wrong(text, f"{tag[:140]!r} is no tag")
        if not _REGISTRY.fullmatch(registry):
            raise _wrong(text, f"{registry[:100]!r} is no registry")
        if registry == DEFAULT_REGISTRY and "/" not in name:
            name = _OFFICIAL + name
        if not _REPOSITORY.fullmatch(name):
            if name.lower() != name and _REPOSITORY.fullmatch(name.lower()):
                raise _wrong(text, "a repository is written in lower case")
            raise _wrong(text, f"{name.removeprefix(_OFFICIAL)[:100]!r} is no repository")
        if len(registry) + 1 + len(name) > MAX_NAME:
            raise _wrong(text, f"it is longer than {MAX_NAME} characters")
        return cls(registry, name, tag or ("" if digest else DEFAULT_TAG), digest)

    @property
    def name(self) -> str:
        """Registry and repository, without tag and digest."""
        return f"{self.registry}/{self.repository}"

    @property
    def familiar(self) -> str:
        """As short as Docker shows it: without the default registry, with the tag."""
        if self.registry != DEFAULT_REGISTRY:
            return str(self)
        name = self.repository
        if name.count("/") == 1:
            name = name.removeprefix(_OFFICIAL)
        first, slash, _ = name.partition("/")
        if slash and _names_registry(first):
            return str(self)
        return name + self._end()

    def with_digest(self, digest: str) -> Reference:
        """The same repository, and exactly this image."""
        return replace(self, tag="", digest=digest)

    def __str__(self) -> str:
        """The normal form, which parses to an equal reference."""
        return self.name + self._end()

    def _end(self) -> str:
        return (f":{self.tag}" if self.tag else "") + (f"@{self.digest}" if self.digest else "")


def nearest(wanted: Reference, others: Iterable[Reference]) -> Reference | None:
    """The one of `others` that was perhaps meant: its repository's own name is as good as the same.

    Registries, folders and tags do not count: many names have them in common.
    """

    def alike(one: str, two: str) -> float:
        return difflib.SequenceMatcher(None, one, two, autojunk=False).ratio()

    def own(reference: Reference) -> str:
        return reference.repository.rpartition("/")[2]

    close = [each for each in others if alike(own(wanted), own(each)) >= ALIKE]
    return max(close, key=lambda each: alike(str(wanted), str(each)), default=None)


def _names_registry(first: str) -> bool:
    """Whether what stands before the first slash is a registry, not a part of a repository."""
    return first == "localhost" or "." in first or ":" in first or first.lower() != first


def _wrong(text: str, why: str) -> ConfigError:
    return ConfigError(
        f"{text[:300]!r} cannot name an image: {why}",
        hint="names look like `demo`, `python:3.12` or `registry.example:5000/team/app:1.0`",
    )
