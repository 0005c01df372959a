"""A private authority, and certificates that are wrong in one way each."""

from __future__ import annotations

import datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
_DAY = datetime.timedelta(days=1)


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def certificate(
    host: str, signer: tuple[x509.Certificate, Key] | None = None, *, authority: bool = False,
    since: int = -1, until: int = 30, weak: bool = False,
) -> tuple[x509.Certificate, Key]:  # fmt: skip
    """One for a host, signed by another or by itself, valid between two days from now."""
    key: Key = (
        rsa.generate_private_key(65537, 1024) if weak else ec.generate_private_key(ec.SECP256R1())
    )
    issuer, issuer_key = signer if signer is not None else (None, key)
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(_name(host))
        .issuer_name(issuer.subject if issuer is not None else _name(host))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + since * _DAY)
        .not_valid_after(now + until * _DAY)
        .add_extension(x509.BasicConstraints(authority, None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
    )
    return made.sign(issuer_key, hashes.SHA256()), key


def zoo(host: str) -> tuple[bytes, dict[str, tuple[x509.Certificate, Key]]]:
    """The authority in PEM; `good` and all that no client may believe."""
    root = certificate("Internet", authority=True)
    other = certificate("Internet", authority=True)
    leaf = certificate(host, root)  # which is no authority, and signs all the same
    animals = {
        "good": leaf,
        "expired": certificate(host, root, since=-20, until=-2),
        "not-yet-valid": certificate(host, root, since=2),
        "wrong-name": certificate(f"www.{host}", root),
        "suffix-of-the-name": certificate(host.partition(".")[2], root),
        "self-signed": certificate(host),
        "another-authority": certificate(host, other),
        "signed-by-a-leaf": certificate(host, leaf),
        "weak-key": certificate(host, root, weak=True),
    }
    return root[0].public_bytes(serialization.Encoding.PEM), animals


def write(folder: Path, name: str, made: tuple[x509.Certificate, Key], chain: bytes = b"") -> None:
    """`NAME.pem` and `NAME.key`."""
    pem = serialization.Encoding.PEM
    (folder / f"{name}.pem").write_bytes(made[0].public_bytes(pem) + chain)
    (folder / f"{name}.key").write_bytes(
        made[1].private_bytes(
            pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )  # fmt: skip
