"""What is believed of upstreams."""

from __future__ import annotations

import datetime
import ssl
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from sandlot.errors import ConfigError
from sandlot.network.tls.authority import Authority
from sandlot.network.tls.session import TlsClient, TlsFailed, TlsServer
from sandlot.network.tls.trust import Trust


def upstream(trust: Trust, authority: Authority, name: str, shown: str) -> TlsClient:
    """A handshake with a server that shows the certificate of `shown` for `name`."""
    client = TlsClient(trust.context(name, 443, ["h2", "http/1.1", "spdy"]), name)
    server = TlsServer(authority.server_context(shown, ["http/1.1"]))
    for _ in range(3):
        server.receive(client.take())
        client.receive(server.take())
    return client


@pytest.fixture
def authority() -> Authority:
    return Authority("upstream")


@pytest.fixture
def bundle(tmp_path: Path, authority: Authority) -> Path:
    path = tmp_path / "ca.pem"
    path.write_bytes(authority.certificate_pem)
    return path


def test_only_what_is_trusted_and_named(authority: Authority, bundle: Path) -> None:
    trust = Trust(extra_ca=bundle)
    client = upstream(trust, authority, "a.example", "a.example")
    assert client.verified and client.protocol == "http/1.1"
    with pytest.raises(TlsFailed, match="Hostname mismatch") as raised:
        upstream(trust, authority, "a.example", "b.example")
    assert raised.value.verification
    with pytest.raises(TlsFailed, match="IP address mismatch"):
        upstream(trust, authority, "10.0.0.1", "10.0.0.2")
    with pytest.raises(TlsFailed, match="certificate"):
        upstream(Trust(), authority, "a.example", "a.example")


def test_expired_ones(authority: Authority, bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = datetime.datetime.now(datetime.UTC) - datetime.timedelta(hours=12)
    made = Authority.leaf_pem
    monkeypatch.setattr(
        Authority, "leaf_pem", lambda self, host, moment, until: made(self, host, moment, old)
    )
    with pytest.raises(TlsFailed, match="expired"):
        upstream(Trust(extra_ca=bundle), authority, "a.example", "a.example")


def test_verification_cannot_be_left_out_where_secrets_go(
    authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    trust = Trust(unverified=["plain.example"], gets_secrets=lambda host, _: host == "key.example")
    client = upstream(trust, authority, "plain.example", "other.example")
    assert client.established and not client.verified
    assert not trust.verifies(trust.context("plain.example", 443, []))
    with pytest.raises(TlsFailed):
        upstream(trust, authority, "key.example", "key.example")
    with pytest.raises(ConfigError, match="always verified"):
        Trust(unverified=["key.example"], gets_secrets=lambda host, _: host == "key.example")
    with pytest.raises(ConfigError, match="single hosts"):
        Trust(unverified=["*.example.com"])
    # a secret that is named later wins too
    monkeypatch.setattr(trust, "_gets_secrets", lambda host, port: True)
    assert trust.verifies(trust.context("plain.example", 443, []))


def test_contexts(bundle: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SSLKEYLOGFILE", str(tmp_path / "keys"))
    trust = Trust(extra_ca=bundle)
    context = trust.context("a.example", 443, ["http/1.1"])
    assert context is trust.context("b.example", 443, ["http/1.1", "spdy"])
    assert context is not trust.context("b.example", 443, ["h2"])
    assert context.verify_mode is ssl.CERT_REQUIRED and context.check_hostname
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2
    assert not context.keylog_filename and not (tmp_path / "keys").exists()


def test_bad_files_of_certificates(tmp_path: Path) -> None:
    (tmp_path / "bad").write_text("nothing")
    for name, words in (("missing", "no such file"), ("bad", "no certificate")):
        with pytest.raises(ConfigError, match=words):
            Trust(extra_ca=tmp_path / name)


def test_self_signed(authority: Authority) -> None:
    """A certificate that vouches for itself is accepted by nobody."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([])
    moment = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(moment)
        .not_valid_after(moment + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("a.example")]), critical=True)
        .sign(key, hashes.SHA256())
    )
    from sandlot.network.tls.authority import _load, _pem, _private_pem

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    _load(context, _pem(certificate), _private_pem(key))
    client = TlsClient(Trust().context("a.example", 443, []), "a.example")
    server = TlsServer(context)
    server.receive(client.take())
    with pytest.raises(TlsFailed, match="self-signed"):
        client.receive(server.take())
