"""A sandbox's own certificate authority, and the certificates that it issues for hosts.

The key exists in this object only: it is made anew whenever a sandbox starts, is never written
to a disk and never shared with another sandbox. Certificates of hosts are made when they are
first needed, share one key, and live for a week.

A fork has programs that have loaded the authority of the sandbox it came from. Its own is therefore
certified by that one too, where both are in one process: so they go on, and no key is shared.
"""

from __future__ import annotations

import datetime
import ipaddress
import os
import ssl
import threading
from collections import OrderedDict
from collections.abc import Sequence
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import ec

LIFE = datetime.timedelta(days=3650)
"""How long the authority is valid: longer than any machine runs. It ends with its key, which is in
this process only. The limits of clients are about the certificates of hosts."""
LEAF_LIFE = datetime.timedelta(days=7)
RENEW = datetime.timedelta(days=1)
"""A host's certificate that ends sooner is made anew."""
CLOCK_SKEW = datetime.timedelta(days=1)
MAX_CACHED = 1024
"""Contexts of hosts that are kept."""
MAX_COMMON_NAME = 64
MAX_CHAIN = 3
"""How many generations back programs go on that have loaded an authority."""


class Authority:
    """The authority of one sandbox.

    >>> authority = Authority("box")
    >>> context = authority.server_context("api.example.com", ["h2", "http/1.1"])
    """

    def __init__(
        self, sandbox: str, *, now: datetime.datetime | None = None,
        parent: Authority | None = None,
    ) -> None:  # fmt: skip
        from cryptography import x509
        from cryptography.hazmat.primitives.asymmetric import ec
        from cryptography.x509.oid import NameOID

        moment = now or datetime.datetime.now(datetime.UTC)
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._leaf_key = ec.generate_private_key(ec.SECP256R1())
        self._lock = threading.Lock()
        self._contexts: OrderedDict[
            tuple[str, tuple[str, ...]], tuple[ssl.SSLContext, datetime.datetime]
        ] = OrderedDict()
        self.not_after = moment + LIFE
        title = f"Sandlot {sandbox}"[:MAX_COMMON_NAME]
        name = x509.Name(
            [
                x509.NameAttribute(NameOID.COMMON_NAME, title),
                # two sandboxes of one name are two authorities, also for what keeps them by name
                x509.NameAttribute(NameOID.SERIAL_NUMBER, os.urandom(8).hex()),
            ]
        )
        own = (
            x509.CertificateBuilder()
            .subject_name(name)
            .public_key(self._key.public_key())
            .not_valid_before(moment - CLOCK_SKEW)
            .not_valid_after(self.not_after)
            # What is below it are the authorities of forks.
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(_usage(sign_certificates=True), critical=True)
            .add_extension(
                x509.SubjectKeyIdentifier.from_public_key(self._key.public_key()), critical=False
            )
        )
        self._certificate = self._sign(own.issuer_name(name))
        self._chain: list[bytes] = []
        if parent is not None:
            crossed = parent._sign(own.issuer_name(parent._certificate.subject))
            self._chain = [_pem(crossed), *parent._chain][:MAX_CHAIN]

    @property
    def certificate_pem(self) -> bytes:
        """The certificate for the guest's trust stores."""
        return _pem(self._certificate)

    def server_context(self, host: str, protocols: Sequence[str]) -> ssl.SSLContext:
        """What to end a guest's TLS with, as this host: a name or an address, in its normal form.

        `protocols` is what ALPN may choose: what the upstream has chosen, or nothing.
        """
        key = (host, tuple(protocols))
        moment = datetime.datetime.now(datetime.UTC)
        with self._lock:
            found = self._contexts.get(key)
            if found is not None and found[1] - moment > RENEW:
                self._contexts.move_to_end(key)
                return found[0]
            until = min(moment + LEAF_LIFE, self.not_after)
            context = self._context(host, protocols, moment, until)
            self._contexts[key] = (context, until)
            while len(self._contexts) > MAX_CACHED:
                self._contexts.popitem(last=False)
            return context

    def leaf_pem(self, host: str, moment: datetime.datetime, until: datetime.datetime) -> bytes:
        """A certificate for one host."""
        from cryptography import x509
        from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

        try:
            shown: x509.GeneralName = x509.IPAddress(ipaddress.ip_address(host))
        except ValueError:
            shown = x509.DNSName(host)
        subject = (
            [x509.NameAttribute(NameOID.COMMON_NAME, host)] if len(host) <= MAX_COMMON_NAME else []
        )
        public = self._leaf_key.public_key()
        leaf = self._sign(
            x509.CertificateBuilder()
            .subject_name(x509.Name(subject))
            .issuer_name(self._certificate.subject)
            .public_key(public)
            .not_valid_before(moment - CLOCK_SKEW)
            .not_valid_after(until)
            .add_extension(x509.SubjectAlternativeName([shown]), critical=not subject)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(sign_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()),
                critical=False,
            )
        )
        return _pem(leaf)

    def _context(
        self,
        host: str,
        protocols: Sequence[str],
        moment: datetime.datetime,
        until: datetime.datetime,
    ) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
        if protocols:
            context.set_alpn_protocols(list(protocols))
        leaf = self.leaf_pem(host, moment, until)
        _load(context, b"".join((leaf, *self._chain)), _private_pem(self._leaf_key))
        return context

    def _sign(self, builder: x509.CertificateBuilder) -> x509.Certificate:
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes

        return builder.serial_number(x509.random_serial_number()).sign(self._key, hashes.SHA256())

    def __repr__(self) -> str:
        return "Authority(...)"

    def __reduce__(self) -> NoReturn:
        raise TypeError("an authority cannot be pickled: its key would be written down")


def _usage(*, sign_certificates: bool) -> x509.KeyUsage:
    from cryptography import x509

    return x509.KeyUsage(
        digital_signature=not sign_certificates,
        key_cert_sign=sign_certificates,
        crl_sign=sign_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _pem(certificate: x509.Certificate) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding

    return certificate.public_bytes(Encoding.PEM)


def _private_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    from cryptography.hazmat.primitives.serialization import (
        Encoding,
        NoEncryption,
        PrivateFormat,
    )

    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _load(context: ssl.SSLContext, certificate: bytes, key: bytes) -> None:
    """Give a context its certificate and key. The standard library takes files only: these are
    pipes, so that the key never is in a file system."""
    ends: list[int] = []
    try:
        paths = []
        for data in (certificate, key):
            reading, writing = os.pipe()
            ends.append(reading)
            with os.fdopen(writing, "wb") as file:  # a pipe holds at least 4096 bytes
                assert len(data) <= 4096
                file.write(data)
            paths.append(f"/dev/fd/{reading}")
        context.load_cert_chain(*paths)
    finally:
        for end in ends:
            os.close(end)
