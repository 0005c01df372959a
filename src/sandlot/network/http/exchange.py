"""The exchange for what ALPN chose."""

from __future__ import annotations

from sandlot.network.http.events import Exchange
from sandlot.network.http.h1 import Http1Exchange
from sandlot.secrets.substitution import Substitution


def make_exchange(protocol: str | None, substitution: Substitution) -> Exchange:
    """An exchange for one connection. `protocol` is what the upstream chose in ALPN, if it did.

    The guest has to be offered the same and nothing else.
    """
    if protocol == "h2":
        from sandlot.network.http.h2 import Http2Exchange  # hpack is imported with it

        return Http2Exchange(substitution)
    return Http1Exchange(substitution)
