"""Where values come from: read when needed, told by description only."""

from __future__ import annotations

import asyncio
import json
import pickle
import sys
from pathlib import Path

import pytest

from sandlot.errors import ConfigError, SecretUnavailable
from sandlot.secrets import source
from sandlot.secrets.source import (
    MAX_VALUE,
    Called,
    Command,
    Environment,
    File,
    Given,
    Missing,
    Source,
    from_description,
)

VALUE = "sk-the-real-value-of-this-test"


async def test_the_environment_is_read_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    one = Environment("SANDLOT_TEST_KEY")
    with pytest.raises(SecretUnavailable, match="SANDLOT_TEST_KEY is not set"):
        await one.read()
    for value in (VALUE, "another"):
        monkeypatch.setenv("SANDLOT_TEST_KEY", value)
        assert await one.read() == value.encode()


async def test_a_file(tmp_path: Path) -> None:
    path = tmp_path / "key"
    one = File(path)
    with pytest.raises(SecretUnavailable, match="No such file"):
        await one.read()
    path.write_text(VALUE + "\r\n")
    assert await one.read() == VALUE.encode()
    path.write_text("")
    with pytest.raises(SecretUnavailable, match="is empty"):
        await one.read()
    path.write_bytes(b"x" * (MAX_VALUE + 1))
    with pytest.raises(SecretUnavailable, match="longer than"):
        await one.read()


async def test_a_command() -> None:
    assert await Command([sys.executable, "-c", f"print('{VALUE}')"]).read() == VALUE.encode()
    with pytest.raises(SecretUnavailable, match="status 3"):
        await Command([sys.executable, "-c", "raise SystemExit(3)"]).read()
    with pytest.raises(SecretUnavailable, match="No such file"):
        await Command("/nowhere/program 'a b'").read()
    with pytest.raises(SecretUnavailable, match="longer than"):
        await Command([sys.executable, "-c", "while True: print('x' * 9999)"]).read()
    assert Command("get 'a b'").argv == ["get", "a b"]
    bad: str | list[str]
    for bad in ("", "'open", []):
        with pytest.raises(ConfigError):
            Command(bad)


async def test_a_command_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "COMMAND_SECONDS", 0.2)
    with pytest.raises(SecretUnavailable, match="took over"):
        await Command([sys.executable, "-c", "import time; time.sleep(600)"]).read()


async def test_functions() -> None:
    async def later() -> str:
        await asyncio.sleep(0)
        return VALUE

    def leaky() -> str:
        raise RuntimeError(f"cannot use {VALUE}")

    assert await Called(lambda: VALUE).read() == VALUE.encode()
    assert await Called(later).read() == VALUE.encode()
    with pytest.raises(SecretUnavailable) as raised:
        await Called(leaky).read()
    assert VALUE not in str(raised.value) and raised.value.__cause__ is None
    with pytest.raises(SecretUnavailable, match="gave int"):
        await Called(lambda: 3).read()  # type: ignore[arg-type, return-value]


@pytest.mark.parametrize(
    "one",
    [Given(VALUE), Environment("KEY"), File("/run/key"), Command("get key"), Called(lambda: VALUE)],
    ids=lambda one: type(one).__name__,
)
def test_the_value_is_never_told(one: Source) -> None:
    text = json.dumps(one.describe())
    assert VALUE not in repr(one) + str(one) + text + one.words()
    with pytest.raises(TypeError):
        pickle.dumps(one)
    again = from_description(json.loads(text))
    assert again.describe() == one.describe()


async def test_what_a_program_gave_is_missing_afterwards() -> None:
    one = from_description({"given": "value"})
    assert isinstance(one, Missing)
    with pytest.raises(SecretUnavailable, match="stored nowhere"):
        await one.read()
    with pytest.raises(ConfigError):
        from_description({"url": "x"})


def test_values_that_cannot_be() -> None:
    for bad in ("", "a\0b", "x" * (MAX_VALUE + 1)):
        with pytest.raises(SecretUnavailable):
            Given(bad)
    with pytest.raises(ConfigError):
        Environment("A=B")
