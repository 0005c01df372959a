from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandlot.errors import ConfigError
from sandlot.image.registry import keychain
from sandlot.image.registry.credentials import AuthFile, AuthFiles, Credentials, Helper
from sandlot.image.registry.keychain import Keychain, ask_helper, read_answer


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A place for a credential helper named `test` on the PATH."""
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    return tmp_path / "docker-credential-test"


def lives(pid: str) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] not in "ZX"


def install(program: Path, script: str) -> None:
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)


async def test_a_helper_is_asked_once(program: Path) -> None:
    install(
        program,
        f'test "$1" = get || exit 9; read -r server; echo "$server" >>{program}.asked\n'
        'printf \'{"ServerURL":"%s","Username":"me","Secret":"x"}\' "$server"',
    )
    files = AuthFiles(((Path("f"), AuthFile(helpers={"registry.example.com": "test"})),))
    chain = Keychain(files)
    for _ in range(2):
        assert await chain.find("registry.example.com", "a/b") == Credentials("me", "x")
    assert Path(f"{program}.asked").read_text() == "registry.example.com\n"
    assert await chain.find("other.example") is None


async def test_an_identity_token(program: Path) -> None:
    install(program, """echo '{"Username":"<token>","Secret":"t"}'""")
    assert await ask_helper(Helper("test", "s")) == Credentials(identity_token="t")


async def test_nothing_is_known(program: Path) -> None:
    install(program, "echo 'credentials not found in native keychain'; exit 1")
    assert await ask_helper(Helper("test", "s")) is None


async def test_a_helper_that_is_missing(program: Path) -> None:
    with pytest.raises(ConfigError, match="docker-credential-test is not installed"):
        await ask_helper(Helper("test", "s"))


async def test_a_helper_that_fails_is_not_quoted(program: Path) -> None:
    install(program, "echo my-secret; exit 3")
    with pytest.raises(ConfigError, match="failed with status 3") as caught:
        await ask_helper(Helper("test", "s"))
    assert "my-secret" not in caught.value.message


async def test_a_helper_that_hangs_is_ended(program: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keychain, "ANSWER_SECONDS", 0.2)
    install(program, f"sleep 600 & echo $! >{program}.pid; wait")
    with pytest.raises(ConfigError, match="did not answer"):
        await ask_helper(Helper("test", "s"))
    pid = Path(f"{program}.pid")
    if pid.exists() and pid.read_text().strip():
        async with asyncio.timeout(30):
            while lives(pid.read_text().strip()):
                await asyncio.sleep(0.01)


async def test_a_helper_that_talks_without_end(program: Path) -> None:
    install(program, "yes")
    with pytest.raises(ConfigError, match="more than 1 MiB"):
        await ask_helper(Helper("test", "s"))


@given(st.binary(), st.integers(0, 1))
def test_any_answer_is_read_or_refused(answer: bytes, status: int) -> None:
    try:
        read_answer(answer, status, "program")
    except ConfigError:
        pass
