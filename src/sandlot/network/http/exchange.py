"""The exchange for what ALPN chose."""

from __future__ import annotations

from sandlot.errors import LocalProtocolError
from sandlot.network.http.events import Exchange
from sandlot.network.http.h1 import Http1Exchange
from sandlot.secrets.substitution import Substitution


def make_exchange(protocol: str | None, substitution: Substitution, *, verified: bool) -> Exchange:
    """An exchange for one connection. `protocol` is what the upstream chose in ALPN, if it did;
    the guest has to be offered the same and nothing else. `verified` is that of the `TlsClient`.

    Raises:
        LocalProtocolError: the host may get a secret over TLS, and was not verified.
    """
    if substitution.tls and substitution.active and not verified:
        raise LocalProtocolError(f"{substitution.host} may get a secret and was not verified")
    if protocol == "h2":
        from sandlot.network.http.h2 import Http2Exchange  # hpack is imported with it

        return Http2Exchange(substitution)
    return Http1Exchange(substitution)
