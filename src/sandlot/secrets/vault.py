"""The secrets of one running sandbox: each with its placeholder, and its value while it is good.

    vault = await Vault.fresh({"OPENAI_API_KEY": Secret(env="OPENAI_API_KEY", hosts=[...])})
                                            # reads all: says which secret it misses
    environment |= vault.environment()      # for the guest: placeholders
    vault = Vault(secrets, record["placeholders"])      # after a restart, or in a fork

    substitution = vault.substitution("api.openai.com", 443)
    await vault.refresh("api.openai.com", 443)          # before each request goes on

Only this object holds values, in memory. It cannot be pickled, and its `repr` has none.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from typing import NoReturn

from sandlot.errors import SecretUnavailable
from sandlot.secrets.bodies import shapes
from sandlot.secrets.placeholder import make_placeholder
from sandlot.secrets.replacer import Replacer
from sandlot.secrets.secret import Secret
from sandlot.secrets.source import expires, now
from sandlot.secrets.substitution import MIN_MASKED, Bound, Substitution


class Vault:
    """Secrets with their placeholders. One for each sandbox."""

    def __init__(self, secrets: Mapping[str, Secret], placeholders: Mapping[str, str]) -> None:
        """`placeholders` has one for each of `secrets`; a fork brings those of its parent."""
        self._bound = {
            name: Bound(name, secret, placeholders[name]) for name, secret in secrets.items()
        }
        self._good_until: dict[str, float] = {}
        self._locks: dict[str, asyncio.Lock] = {name: asyncio.Lock() for name in secrets}

    @classmethod
    async def fresh(
        cls, secrets: Mapping[str, Secret], kept: Mapping[str, str] | None = None
    ) -> Vault:
        """One for a new sandbox: every value is read, every placeholder is made from its form.

        `kept` are placeholders that stay, as a fork's do.

        Raises:
            SecretUnavailable: a value cannot be had; it carries the secret's name.
        """
        placeholders = {name: text for name, text in (kept or {}).items() if name in secrets}
        values: dict[str, bytes] = {}
        for name, secret in secrets.items():
            values[name] = await _read(name, secret)
            if name not in placeholders:
                taken = (*placeholders.values(), *(kept or {}).values())
                placeholders[name] = make_placeholder(values[name], taken)
        vault = cls(secrets, placeholders)
        for name, value in values.items():
            vault._keep(name, value)
        return vault

    def environment(self) -> dict[str, str]:
        """The guest's variables: a placeholder for each secret. These may be written down."""
        return {name: one.placeholder.decode() for name, one in self._bound.items()}

    def secrets(self) -> dict[str, Secret]:
        """The secrets by name."""
        return {name: one.secret for name, one in self._bound.items()}

    def concerns(self, host: str, port: int) -> bool:
        """Whether connections to this host (in its normal form) have to be looked into."""
        return any(one.secret.names(host, port) for one in self._bound.values())

    def in_plain_http(self, host: str, port: int) -> bool:
        """Whether a secret is also for this host's HTTP without TLS."""
        return any(
            one.secret.plain_http and one.secret.names(host, port) for one in self._bound.values()
        )

    def refuses_misuse(self) -> bool:
        """Whether a secret asks that requests to any host are looked into."""
        return any(one.secret.on_misuse == "refuse" for one in self._bound.values())

    def substitution(self, host: str, port: int, *, tls: bool = True) -> Substitution:
        """What one connection to this host may have."""
        return Substitution(list(self._bound.values()), host, port, tls)

    def stale(self, host: str, port: int) -> bool:
        """Whether `refresh` would read something; cheap."""
        return any(True for _ in self._due(host, port))

    async def refresh(self, host: str, port: int) -> None:
        """Read again what this host may get and what is no longer good. Never raises: what cannot
        be had is `problem` of the secret, and its requests are refused with it."""
        for name in list(self._due(host, port)):
            async with self._locks[name]:
                if self._good_until.get(name, -1.0) > now():
                    continue
                try:
                    self._keep(name, await _read(name, self._bound[name].secret))
                except SecretUnavailable as error:
                    self._bound[name].value = None
                    self._bound[name].problem = error.reason
                    self._good_until.pop(name, None)

    async def read_all(self) -> None:
        """Read every value now.

        Raises:
            SecretUnavailable: for the first that cannot be had; it carries the secret's name.
        """
        for name, one in self._bound.items():
            self._keep(name, await _read(name, one.secret))

    def replace(self, name: str, secret: Secret) -> None:
        """Give a secret anew while the sandbox runs; its placeholder stays.

        Raises:
            KeyError: the sandbox has none of this name.
        """
        one = self._bound[name]
        one.value, one.secret = None, secret
        self._good_until.pop(name, None)

    def redact(self, text: bytes) -> bytes:
        """What a server said, for a record: with placeholders in the place of values."""
        replacer = Replacer(shapes(self._bound.values()))
        return bytes(replacer.feed(text)) + replacer.finish()

    def _due(self, host: str, port: int) -> Iterable[str]:
        moment = now()
        for name, one in self._bound.items():
            if self._good_until.get(name, -1.0) <= moment and one.secret.names(host, port):
                yield name

    def _keep(self, name: str, value: bytes) -> None:
        one = self._bound[name]
        one.value, one.problem = value, ""
        self._good_until[name] = expires(one.secret.source, now())

    def __repr__(self) -> str:
        return f"Vault({', '.join(self._bound)})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a vault cannot be pickled: it holds values")


async def _read(name: str, secret: Secret) -> bytes:
    try:
        value = await secret.source.read()
        if secret.mask_echo and len(value) < MIN_MASKED:
            raise SecretUnavailable(f"it has under {MIN_MASKED} bytes, too few to be masked")
        return value
    except SecretUnavailable as error:
        raise SecretUnavailable(error.reason, hint=error.hint, secret=name) from None
