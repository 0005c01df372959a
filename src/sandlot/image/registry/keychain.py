"""Credential helpers: programs that hold credentials, by Docker's protocol.

`docker-credential-<name> get` reads the server's name and answers with JSON.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal

from sandlot.errors import ConfigError
from sandlot.image.registry.credentials import TOKEN_USER, AuthFiles, Credentials, Helper

ANSWER_SECONDS = 60.0
"""A helper may ask its user to unlock a key ring."""
MAX_ANSWER = 1 << 20


class Keychain:
    """All credentials of this user, looked up when a registry asks for them.

    keychain = Keychain(AuthFiles.read(os.environ))
    await keychain.find("registry.example.com", "team/app")
    """

    def __init__(self, files: AuthFiles) -> None:
        self._files = files
        self._asked: dict[Helper, Credentials | None] = {}

    async def find(self, registry: str, repository: str = "") -> Credentials | None:
        """What there is for this repository. Raises ConfigError when a helper fails."""
        entry = self._files.find(registry, repository)
        if not isinstance(entry, Helper):
            return entry
        if entry not in self._asked:
            self._asked[entry] = await ask_helper(entry)
        return self._asked[entry]


async def ask_helper(helper: Helper) -> Credentials | None:
    """What a helper knows about its server; None when it knows nothing.

    Raises ConfigError when the program is missing, fails, hangs, or says something else.
    """
    program = shutil.which(f"docker-credential-{helper.name}")
    if program is None:
        raise ConfigError(
            f"the credential helper docker-credential-{helper.name} is not installed",
            hint="install it, or take it out of your file of credentials",
        )
    try:
        process = await asyncio.create_subprocess_exec(
            program, "get", stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL, start_new_session=True, limit=MAX_ANSWER,
        )  # fmt: skip
    except OSError as error:
        raise ConfigError(f"cannot run {program}: {error.strerror}") from error
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            assert process.stdin is not None and process.stdout is not None
            with contextlib.suppress(ConnectionError):
                process.stdin.write(helper.server.encode())
                await process.stdin.drain()
            process.stdin.close()
            answer = bytearray()
            while piece := await process.stdout.read(1 << 16):
                answer += piece
                if len(answer) > MAX_ANSWER:
                    raise ConfigError(f"{program} said more than 1 MiB")
            status = await process.wait()
    except TimeoutError as error:
        raise ConfigError(f"{program} did not answer within {ANSWER_SECONDS:g} s") from error
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
    return read_answer(bytes(answer), status, program)


def read_answer(answer: bytes, status: int, program: str) -> Credentials | None:
    """A helper's answer as credentials. Raises ConfigError, which does not quote it."""
    if status != 0:
        if b"not found" in answer.lower():
            return None
        raise ConfigError(
            f"{program} failed with status {status}", hint="log in again, or repair the helper"
        )
    try:
        data = json.loads(answer)
        username, secret = data["Username"], data["Secret"]
        if not isinstance(username, str) or not isinstance(secret, str):
            raise TypeError
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ConfigError(f"{program} did not answer with credentials") from error
    if username == TOKEN_USER:
        return Credentials(identity_token=secret)
    return Credentials(username, secret) if username or secret else None
