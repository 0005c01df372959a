"""From a registry's challenge to an Authorization header.

Source: the distribution project's "Token Authentication Specification" and its OAuth2 form. The
token's server is named by the registry; it gets the credentials of that registry, as with every
other client, but only over TLS, or where plain HTTP is allowed.
"""

from __future__ import annotations

import asyncio
import json
import time
import urllib.parse
from collections.abc import Callable, Sequence

from sandlot.errors import RegistryError
from sandlot.image.registry.credentials import Credentials
from sandlot.image.registry.headers import Challenge
from sandlot.image.registry.keychain import Keychain
from sandlot.image.registry.refusals import login_hint
from sandlot.image.registry.registries import Endpoint
from sandlot.image.registry.transport import Origin, Transport
from sandlot.image.registry.words import complaint, printable

MAX_TOKEN_ANSWER = 1 << 20
MAX_TOKEN = 64 * 1024
SHORTEST = 60.0
"""Seconds that a token lasts when its server does not say."""
CLIENT = "sandlot"


class Login:
    """What one endpoint is shown, for one repository. Asked once, used by all requests.

    `allows_plain` tells whether credentials may go to a host without TLS.
    """

    def __init__(
        self, transport: Transport, endpoint: Endpoint, repository: str, keychain: Keychain,
        allows_plain: Callable[[str], bool],
    ) -> None:  # fmt: skip
        self._transport = transport
        self._endpoint = endpoint
        self.repository = repository
        self._keychain = keychain
        self._allows_plain = allows_plain
        self._lock = asyncio.Lock()
        self._header = ""
        self._expires = 0.0
        self._actions: set[str] = set()
        self.credentials: Credentials | None = None
        """What was found when it was needed."""

    @property
    def header(self) -> str:
        """The value of Authorization, or nothing when none was asked or it has expired."""
        return self._header if time.monotonic() < self._expires else ""

    async def renew(self, challenges: Sequence[Challenge], refused: str) -> str:
        """After a 401: another header than the one that was `refused`, empty if there is none.

        Raises RegistryError when the token's server refuses or cannot be used.
        """
        async with self._lock:
            if self.header and self.header != refused:
                return self.header  # another request has just got it
            found = await self._keychain.find(self._endpoint.registry, self.repository)
            self.credentials = found
            schemes = {challenge.scheme: challenge for challenge in reversed(challenges)}
            if "bearer" in schemes:
                header, lasts = await self._bearer(schemes["bearer"], found)
            elif "basic" in schemes and found is not None and found.username:
                header, lasts = found.basic(), float("inf")
            else:
                return ""
            self._header, self._expires = header, time.monotonic() + lasts
            return header if header != refused else ""

    async def _bearer(self, challenge: Challenge, found: Credentials | None) -> tuple[str, float]:
        if found is not None and found.registry_token:
            return f"Bearer {found.registry_token}", float("inf")
        realm = challenge.parameters.get("realm", "")
        name = self._endpoint.registry
        try:
            origin = Origin.of(realm)
        except ValueError as error:
            raise RegistryError(
                f"{name} names no server for tokens that can be used: {printable(realm, 100)!r}",
                registry=name,
            ) from error
        if origin.scheme != "https" and not self._allows_plain(origin.netloc):
            raise RegistryError(
                f"{name} wants credentials sent unencrypted to {origin.netloc}, which is refused",
                registry=name, hint=f"if you trust it, set SANDLOT_INSECURE_REGISTRIES={origin.netloc}",
            )  # fmt: skip
        query = {
            "service": challenge.parameters.get("service", ""),
            "scope": self._scope(challenge.parameters.get("scope", "")),
        }
        query = {key: value for key, value in query.items() if value}
        if found is not None and found.identity_token:
            return await self._exchange(realm, query, found)
        if found is not None and found.username:
            query["account"] = found.username
        parts = urllib.parse.urlsplit(realm)
        words = urllib.parse.urlencode(query)
        url = parts._replace(query=f"{parts.query}&{words}" if parts.query else words).geturl()
        headers = {"Authorization": found.basic()} if found is not None and found.username else {}
        answer = await self._transport.send("GET", url, headers)
        return self._token(answer.status, await answer.read(MAX_TOKEN_ANSWER), origin, found)

    def _scope(self, asked: str) -> str:
        """What the token is for: also what earlier ones were, so that one does for all requests."""
        own = f"repository:{self.repository}:"
        if not asked or not asked.startswith(own) or " " in asked:
            return asked or f"{own}pull"
        self._actions |= set(asked.removeprefix(own).split(","))
        order = ("pull", "push", "delete")
        actions = sorted(
            self._actions, key=lambda each: (each not in order, (*order, each).index(each))
        )
        return own + ",".join(actions)

    async def _exchange(
        self, realm: str, query: dict[str, str], found: Credentials
    ) -> tuple[str, float]:
        """OAuth2: an identity token for an access token."""
        form = {
            **query, "grant_type": "refresh_token", "refresh_token": found.identity_token,
            "client_id": CLIENT,
        }  # fmt: skip
        answer = await self._transport.send(
            "POST", realm, {"Content-Type": "application/x-www-form-urlencoded"},
            urllib.parse.urlencode(form).encode(),
        )  # fmt: skip
        body = await answer.read(MAX_TOKEN_ANSWER)
        return self._token(answer.status, body, Origin.of(realm), found)

    def _token(
        self, status: int, body: bytes, origin: Origin, found: Credentials | None
    ) -> tuple[str, float]:
        name = self._endpoint.registry
        if status in (400, 401, 403):
            who = f"the credentials of {found.username or 'your token'}" if found else "no login"
            raise RegistryError(
                f"{name} refused {who}{complaint(body)}", registry=name, status=status,
                hint=login_hint(name),
            )  # fmt: skip
        if status != 200:
            raise RegistryError(
                f"the server for tokens {origin.netloc} answered with {status}{complaint(body)}",
                registry=name, status=status, hint="try again later",
            )  # fmt: skip
        try:
            data = json.loads(body)
            token = data.get("token") or data.get("access_token")
            lasts = float(data.get("expires_in") or SHORTEST)
            if not isinstance(token, str) or not token.isascii() or not token.isprintable():
                raise TypeError
            if not token or " " in token or len(token) > MAX_TOKEN:
                raise ValueError
        except (ValueError, TypeError, AttributeError, RecursionError, OverflowError) as error:
            raise RegistryError(
                f"the server for tokens {origin.netloc} did not answer with a token", registry=name
            ) from error
        # Some time less: it must not expire on its way.
        return f"Bearer {token}", min(max(lasts, SHORTEST), 86400.0) * 0.9
