"""A sandbox's authority: accepted by those who trust it, and by nobody else."""

from __future__ import annotations

import datetime
import pickle
import ssl
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from sandlot.network.tls import authority as module
from sandlot.network.tls.authority import LEAF_LIFE, Authority
from sandlot.network.tls.session import TlsClient, TlsFailed, TlsServer

NOW = datetime.datetime.now(datetime.UTC)


def client_context(authority: Authority) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=authority.certificate_pem.decode())
    context.verify_flags |= ssl.VERIFY_X509_STRICT  # as Python 3.13 and later verify
    context.set_alpn_protocols(["h2", "http/1.1"])
    return context


def shake(client: TlsClient, server: TlsServer) -> None:
    for _ in range(4):
        server.receive(client.take())
        client.receive(server.take())
    assert client.established and server.established


@pytest.mark.parametrize("host", ["api.example.com", "10.1.2.3", "2001:db8::1", f"{'a' * 60}.b.c"])
def test_clients_that_trust_it_accept_its_hosts(host: str) -> None:
    authority = Authority("box")
    client = TlsClient(client_context(authority), host)
    shake(client, TlsServer(authority.server_context(host, ["http/1.1"])))
    assert client.protocol == "http/1.1" and client.version == "TLSv1.3" and client.verified


def test_not_for_another_host_nor_by_another_sandbox() -> None:
    authority, other = Authority("box"), Authority("box")
    for context, name in (
        (client_context(authority), "other.example.com"),
        (client_context(other), "api.example.com"),
    ):
        client = TlsClient(context, name)
        server = TlsServer(authority.server_context("api.example.com", []))
        server.receive(client.take())
        with pytest.raises(TlsFailed) as raised:
            client.receive(server.take())
        assert raised.value.verification


def test_what_it_says() -> None:
    authority = Authority("b" * 100, now=NOW)
    ca = x509.load_pem_x509_certificate(authority.certificate_pem)
    constraints = ca.extensions.get_extension_for_class(x509.BasicConstraints)
    assert constraints.critical and constraints.value.ca and constraints.value.path_length is None
    assert ca.not_valid_after_utc - NOW <= module.LIFE
    pem = authority.leaf_pem("api.example.com", NOW, NOW + LEAF_LIFE)
    leaf = x509.load_pem_x509_certificate(pem)
    leaf.verify_directly_issued_by(ca)
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["api.example.com"]
    usage = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.SERVER_AUTH]
    assert not leaf.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert leaf.not_valid_after_utc - NOW <= LEAF_LIFE


def test_contexts_are_kept_and_made_anew_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    authority = Authority("box")
    first = authority.server_context("a.example", ["h2"])
    assert authority.server_context("a.example", ["h2"]) is first
    assert authority.server_context("a.example", []) is not first
    monkeypatch.setattr(module, "RENEW", LEAF_LIFE * 2)
    assert authority.server_context("a.example", ["h2"]) is not first
    monkeypatch.setattr(module, "MAX_CACHED", 2)
    for number in range(5):
        authority.server_context(f"{number}.example", [])
    assert len(authority._contexts) == 2


def test_the_key_is_nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither in a file, nor in what is shown, nor are descriptors left open."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    before = len(list(Path("/proc/self/fd").iterdir()))
    authority = Authority("box")
    authority.server_context("a.example", [])
    assert len(list(Path("/proc/self/fd").iterdir())) == before
    assert not list(tmp_path.iterdir())
    assert "key" not in repr(authority).lower()
    with pytest.raises(TypeError):
        pickle.dumps(authority)


def test_old_versions_are_refused() -> None:
    authority = Authority("box")
    assert authority.server_context("a.example", []).minimum_version == ssl.TLSVersion.TLSv1_2


def test_who_trusts_a_parent_trusts_the_authorities_of_its_forks() -> None:
    """Three generations back, by the certificates that come with a host's own."""
    line = [Authority("parent")]
    for name in ("child", "grandchild", "third", "fourth"):
        line.append(Authority(name, parent=line[-1]))
    for trusted, works in zip(line, (False, True, True, True, True), strict=True):
        assert handshake(line[-1], trusted) == works
    assert not handshake(line[0], line[1])
    assert not handshake(Authority("stranger"), line[0])


def handshake(server: Authority, trusted: Authority) -> bool:
    """Whether a client that trusts only one authority believes what another one says."""
    client = ssl.create_default_context(cadata=trusted.certificate_pem.decode())
    (a, b), (c, d) = (ssl.MemoryBIO(), ssl.MemoryBIO()), (ssl.MemoryBIO(), ssl.MemoryBIO())
    ours = client.wrap_bio(a, b, server_hostname="api.example.com")
    theirs = server.server_context("api.example.com", []).wrap_bio(c, d, server_side=True)
    for _ in range(4):
        for side in (ours, theirs):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                pass
            except ssl.SSLCertVerificationError:
                return False
            c.write(b.read())
            a.write(d.read())
    return ours.version() is not None
