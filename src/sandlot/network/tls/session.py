"""One end of a TLS connection, without sockets: bytes of the network in, bytes of the program out.

    tls = TlsServer(context)                    # or TlsClient(context, "api.example.com")
    for plain in tls.receive(data): ...         # also drives the handshake
    tls.write(answer)
    transport.write(tls.take())

Before each `receive` the caller has taken what was there to take; so memory is bounded by what
it feeds in one call, and by `MAX_EARLY` before the handshake is complete.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterable, Iterator

from sandlot.errors import LocalProtocolError

MAX_EARLY = 256 * 1024
"""Bytes of one side's handshake."""
MAX_RECORD = 16 * 1024
_READ = 64 * 1024


class TlsFailed(Exception):
    """This side's TLS is over. `take` still has an alert to send.

    `reason` is a sentence; `verification` says that the peer's certificate was not accepted.
    """

    def __init__(self, reason: str, *, verification: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.verification = verification


class TlsSession:
    """What both ends have. Not made directly."""

    def __init__(self, context: ssl.SSLContext, *, server_side: bool, name: str | None) -> None:
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(
            self._in, self._out, server_side=server_side, server_hostname=name
        )
        self._early = 0
        self._unwritten: list[bytes | memoryview] = []
        self.established = False
        self.ended = False
        """The peer said its farewell: it sends no more, and nothing was cut off."""

    @property
    def protocol(self) -> str | None:
        """What ALPN chose."""
        return self._tls.selected_alpn_protocol()

    @property
    def version(self) -> str | None:
        """As in `TLSv1.3`."""
        return self._tls.version()

    @property
    def peer_certificate(self) -> bytes | None:
        """The peer's certificate, DER."""
        return self._tls.getpeercert(binary_form=True)

    def receive(self, data: bytes | memoryview) -> list[bytes]:
        """Bytes of the network; what the peer's program said in them.

        Raises:
            TlsFailed: the handshake or a record is wrong, or the certificate is not accepted.
        """
        return list(self.receiving(data))

    def receiving(self, data: bytes | memoryview) -> Iterator[bytes]:
        """As `receive`, piece by piece.

        Raises:
            TlsFailed: as above.
        """
        if not self.established:
            self._early += len(data)
            if self._early > MAX_EARLY:
                raise TlsFailed("the handshake has no end")
        self._in.write(data)
        if not self.established and not self._handshake():
            return
        while not self.ended:
            try:
                piece = self._tls.read(_READ)
            except ssl.SSLWantReadError:
                return
            except ssl.SSLZeroReturnError:
                self.ended = True
                return
            except ssl.SSLError as error:
                raise TlsFailed(_reason(error)) from None
            if not piece:
                self.ended = True
                return
            yield piece

    def closed(self) -> bool:
        """The network sends no more. Whether that was announced, so that nothing is missing."""
        self._in.write_eof()
        return self.ended

    def write(self, data: bytes | memoryview) -> None:
        """Something for the peer's program; kept until the handshake is complete."""
        if not self.established:
            self._unwritten.append(data)
            return
        view = memoryview(data)
        try:
            while view:
                view = view[self._tls.write(view) :]
        except ssl.SSLWantReadError:
            raise LocalProtocolError("TLS asked to read in the middle of a write") from None
        except ssl.SSLError as error:
            raise TlsFailed(_reason(error)) from None

    def write_all(self, pieces: Iterable[bytes | memoryview]) -> None:
        """Several pieces, as `write`."""
        for piece in pieces:
            self.write(piece)

    def take(self) -> bytes:
        """What is to be sent to the network now."""
        return self._out.read() if self._out.pending else b""

    def farewell(self) -> None:
        """Say that nothing more is written; `take` has it then."""
        if not self.established:
            return
        try:
            self._tls.unwrap()
        except ssl.SSLError:  # it awaits the peer's farewell, which may never come
            pass

    def _handshake(self) -> bool:
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            return False
        except ssl.SSLCertVerificationError as error:
            raise TlsFailed(error.verify_message, verification=True) from None
        except ssl.SSLError as error:
            raise TlsFailed(_reason(error)) from None
        self.established = True
        waiting, self._unwritten = self._unwritten, []
        self.write_all(waiting)
        return True


class TlsServer(TlsSession):
    """The end that a guest's program speaks to."""

    def __init__(self, context: ssl.SSLContext) -> None:
        super().__init__(context, server_side=True, name=None)


class TlsClient(TlsSession):
    """The end that speaks to an upstream, which has to be `name`. `take` has the first bytes."""

    def __init__(self, context: ssl.SSLContext, name: str) -> None:
        super().__init__(context, server_side=False, name=name)
        self._handshake()

    @property
    def verified(self) -> bool:
        """Whether the upstream's chain, name and time were verified."""
        context = self._tls.context
        return (
            self.established and context.verify_mode is ssl.CERT_REQUIRED and context.check_hostname
        )


def _reason(error: ssl.SSLError) -> str:
    return (error.reason or "TLS failed").replace("_", " ").lower()
