"""Where a secret's value comes from. It is read when it is needed, and never written down.

What is written to a sandbox's record is `describe()`: the name of the variable, the path, the
command; never a value. A value or a callable leaves no more than that a program gave it.
"""

from __future__ import annotations

import asyncio
import inspect
import os
import shlex
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import NoReturn

from sandlot.errors import ConfigError, SecretUnavailable

MAX_VALUE = 32 * 1024
"""Bytes of a value."""
COMMAND_SECONDS = 60.0
"""How long a command or a callable may take."""
REFRESH_SECONDS = 60.0
"""How long the answer of a command or a callable is used before it is asked again."""

Callee = Callable[[], "str | bytes | Awaitable[str | bytes]"]


class Source(ABC):
    """One source. `refresh` is for how many seconds a value stays good."""

    refresh: float = 0.0

    @abstractmethod
    def describe(self) -> dict[str, object]:
        """What a record may hold of it; `from_description` reads it."""

    @abstractmethod
    def words(self) -> str:
        """What to call it in a message."""

    @abstractmethod
    async def read(self) -> bytes:
        """The value now.

        Raises:
            SecretUnavailable: it is missing, empty, too long, or its command failed.
        """

    def __repr__(self) -> str:
        return f"<{self.words()}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("the source of a secret cannot be pickled")


class Given(Source):
    """A value that the program gave. It lives in this object only."""

    refresh = float("inf")

    def __init__(self, value: str | bytes) -> None:
        self._value = checked(value, self)

    @property
    def value(self) -> bytes:
        """The value, for the pipe of a process that is about to hold it instead."""
        return self._value

    def describe(self) -> dict[str, object]:
        return {"given": "value"}

    def words(self) -> str:
        return "a value given by the program"

    async def read(self) -> bytes:
        return self._value


class Environment(Source):
    """A variable of this process's environment, looked at each time."""

    def __init__(self, name: str) -> None:
        if not name or "=" in name or "\0" in name:
            raise ConfigError(f"`{name}` is not the name of an environment variable")
        self.name = name

    def describe(self) -> dict[str, object]:
        return {"env": self.name}

    def words(self) -> str:
        return f"the environment variable {self.name}"

    async def read(self) -> bytes:
        value = os.environb.get(os.fsencode(self.name))
        if value is None:
            raise SecretUnavailable(f"{self.words()} is not set")
        return checked(value, self)


class File(Source):
    """A file, read anew each time. One newline at its end does not belong to the value."""

    refresh = 1.0

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path).expanduser().absolute()

    def describe(self) -> dict[str, object]:
        return {"file": str(self.path)}

    def words(self) -> str:
        return f"the file {self.path}"

    async def read(self) -> bytes:
        return await asyncio.to_thread(self._read)

    def _read(self) -> bytes:
        try:
            with self.path.open("rb") as file:
                value = file.read(MAX_VALUE + 2)
        except OSError as error:
            raise SecretUnavailable(f"{self.words()}: {error.strerror}") from None
        return checked(_without_newline(value), self)


class Command(Source):
    """A command's standard output. Text is split as a shell splits, but no shell runs it."""

    refresh = REFRESH_SECONDS

    def __init__(self, command: str | Sequence[str]) -> None:
        try:
            self.argv = shlex.split(command) if isinstance(command, str) else list(command)
        except ValueError as error:
            raise ConfigError(f"the command of a secret: {error}") from None
        if not self.argv:
            raise ConfigError("the command of a secret is empty")

    def describe(self) -> dict[str, object]:
        return {"command": self.argv}

    def words(self) -> str:
        return f"the command `{shlex.join(self.argv)}`"

    async def read(self) -> bytes:
        try:
            process = await asyncio.create_subprocess_exec(
                *self.argv,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,  # it may tell the value
            )
        except OSError as error:
            raise SecretUnavailable(f"{self.words()}: {error.strerror}") from None
        assert process.stdout is not None
        try:
            async with asyncio.timeout(COMMAND_SECONDS):
                value = b""
                while piece := await process.stdout.read(MAX_VALUE):
                    value += piece
                    if len(value) > MAX_VALUE + 1:
                        break
                else:
                    await process.wait()
        except TimeoutError:
            raise SecretUnavailable(f"{self.words()} took over {COMMAND_SECONDS:.0f} s") from None
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        if process.returncode and len(value) <= MAX_VALUE + 1:
            raise SecretUnavailable(f"{self.words()} failed with status {process.returncode}")
        return checked(_without_newline(value), self)


class Called(Source):
    """A function of the program, synchronous (it is called in a thread) or not."""

    refresh = REFRESH_SECONDS

    def __init__(self, function: Callee) -> None:
        self._function = function

    def describe(self) -> dict[str, object]:
        return {"given": "callable"}

    def words(self) -> str:
        return "a function of the program"

    async def read(self) -> bytes:
        value: object
        try:
            async with asyncio.timeout(COMMAND_SECONDS):
                if inspect.iscoroutinefunction(self._function):
                    value = self._function()
                else:
                    value = await asyncio.to_thread(self._function)
                if inspect.isawaitable(value):
                    value = await value
        except TimeoutError:
            raise SecretUnavailable(f"{self.words()} took over {COMMAND_SECONDS:.0f} s") from None
        except SecretUnavailable:
            raise
        except Exception as error:  # its text may hold the value: only the kind is told
            raise SecretUnavailable(f"{self.words()} raised {type(error).__name__}") from None
        if not isinstance(value, str | bytes):
            raise SecretUnavailable(f"{self.words()} gave {type(value).__name__}, not text")
        return checked(value, self)


class Missing(Source):
    """What is left of a value or a callable after the program that gave it has ended."""

    def __init__(self, kind: str) -> None:
        self._kind = kind

    def describe(self) -> dict[str, object]:
        return {"given": self._kind}

    def words(self) -> str:
        return "a value given by a program that has ended"

    async def read(self) -> bytes:
        raise SecretUnavailable(
            "it was given by the program that created the sandbox, and is stored nowhere",
            hint="give it again, or name a source that lasts: env, file or command",
        )


def from_description(described: dict[str, object]) -> Source:
    """The source that a record names.

    Raises:
        ConfigError: it names none.
    """
    match described:
        case {"env": str(name)}:
            return Environment(name)
        case {"file": str(path)}:
            return File(path)
        case {"command": [*argv]} if all(isinstance(word, str) for word in argv):
            return Command([str(word) for word in argv])
        case {"given": str(kind)}:
            return Missing(kind)
    raise ConfigError("the record of a secret names no source")


def checked(value: str | bytes, source: Source) -> bytes:
    """The bytes of a value, if they can be one.

    Raises:
        SecretUnavailable: empty or too long.
    """
    data = value.encode() if isinstance(value, str) else bytes(value)
    if not data:
        raise SecretUnavailable(f"{source.words()} is empty")
    if len(data) > MAX_VALUE:
        raise SecretUnavailable(f"{source.words()} is longer than {MAX_VALUE} bytes")
    if b"\0" in data:
        raise SecretUnavailable(f"{source.words()} holds a NUL byte")
    return data


def expires(source: Source, read_at: float) -> float:
    """Until when (`time.monotonic`) a value that was read then is used."""
    return read_at + source.refresh


def now() -> float:
    """The clock that `expires` counts in."""
    return time.monotonic()


def _without_newline(value: bytes) -> bytes:
    return value.removesuffix(b"\n").removesuffix(b"\r")
