"""What the gateway believes of upstreams: the host's trust, the name, the chain and the time."""

from __future__ import annotations

import os
import ssl
import threading
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from sandlot.errors import ConfigError, HostError
from sandlot.secrets.hosts import HostPattern

PROTOCOLS = ("h2", "http/1.1")
"""What ALPN may choose with an upstream, as far as the guest offers it too."""


class Trust:
    """Contexts for connections to upstreams.

    Args:
        extra_ca: a file of certificates (PEM) that are trusted besides the host's own.
        unverified: hosts whose certificates are not verified. They are only looked at, and never
            get a secret.
        gets_secrets: says of a host and a port whether a secret names it.

    Raises:
        ConfigError: an unverified host may get a secret, or is a whole domain; a bad `extra_ca`.
    """

    def __init__(
        self,
        *,
        extra_ca: str | os.PathLike[str] | None = None,
        unverified: Iterable[str] = (),
        gets_secrets: Callable[[str, int], bool] = lambda host, port: False,
    ) -> None:
        self._extra_ca = Path(extra_ca) if extra_ca is not None else None
        self._gets_secrets = gets_secrets
        self._unverified = [HostPattern.parse(text) for text in unverified]
        self._contexts: dict[tuple[bool, tuple[str, ...]], ssl.SSLContext] = {}
        self._lock = threading.Lock()
        for pattern in self._unverified:
            if pattern.suffix:
                raise ConfigError(f"`{pattern}`: only single hosts can be left unverified")
            if gets_secrets(pattern.name, pattern.port or 443):
                raise ConfigError(
                    f"`{pattern}` may get a secret: its certificate is always verified",
                    hint="add its authority to the trusted ones instead",
                )
        if self._extra_ca is not None:
            _add(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), self._extra_ca)

    def context(self, host: str, port: int, offered: Sequence[str]) -> ssl.SSLContext:
        """The context for a connection to this host, whose guest offers these in ALPN.

        A host that a secret names is verified, whatever was said. The first call reads the host's
        certificates, which takes tens of milliseconds.
        """
        protocols = tuple(one for one in PROTOCOLS if one in offered)
        verified = self._gets_secrets(host, port) or not any(
            pattern.matches(host, port) for pattern in self._unverified
        )
        with self._lock:
            context = self._contexts.get((verified, protocols))
            if context is None:
                context = self._contexts[verified, protocols] = self._make(verified, protocols)
            return context

    def verifies(self, context: ssl.SSLContext) -> bool:
        """Whether a context verifies all there is to verify. Asked before a value is sent."""
        return context.verify_mode is ssl.CERT_REQUIRED and context.check_hostname

    def _make(self, verified: bool, protocols: Sequence[str]) -> ssl.SSLContext:
        # Not create_default_context: it would honour SSLKEYLOGFILE, and write down session keys.
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_default_certs(ssl.Purpose.SERVER_AUTH)
        context.hostname_checks_common_name = False  # RFC 9525, section 2: only alternative names
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
        if self._extra_ca is not None:
            _add(context, self._extra_ca)
        if protocols:
            context.set_alpn_protocols(list(protocols))
        if not verified:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context


def _add(context: ssl.SSLContext, path: Path) -> None:
    try:
        context.load_verify_locations(cafile=str(path))
    except FileNotFoundError:
        raise ConfigError(f"{path}: there is no such file of certificates") from None
    except ssl.SSLError as error:
        raise ConfigError(f"{path}: {(error.reason or 'bad').replace('_', ' ').lower()}") from error
    except OSError as error:
        raise HostError(f"{path}: {error.strerror}") from error
