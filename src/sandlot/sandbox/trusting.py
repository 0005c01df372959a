"""The sandbox's own authority in the guest's trust stores, where connections are looked into."""

from __future__ import annotations

from sandlot.errors import FileError
from sandlot.files.files import Files

FOLDER = "/run/sandlot"
CERTIFICATE = f"{FOLDER}/ca.pem"
BUNDLE = f"{FOLDER}/ca-bundle.pem"
# Debian and Alpine; Alpine's other one; Red Hat's two; SUSE's.
BUNDLES = (
    "/etc/ssl/certs/ca-certificates.crt", "/etc/ssl/cert.pem", "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem", "/etc/ssl/ca-bundle.pem",
)  # fmt: skip
# From here the tools of the distribution make their bundles anew.
ANCHORS = ("/usr/local/share/ca-certificates", "/etc/pki/ca-trust/source/anchors")
ENVIRONMENT = {
    # OpenSSL and Go; Python's requests and pip, which bring their own; curl; git; Node; and others.
    "SSL_CERT_FILE": BUNDLE, "REQUESTS_CA_BUNDLE": BUNDLE, "PIP_CERT": BUNDLE,
    "CURL_CA_BUNDLE": BUNDLE, "GIT_SSL_CAINFO": BUNDLE, "NODE_EXTRA_CA_CERTS": CERTIFICATE,
    "AWS_CA_BUNDLE": BUNDLE, "CARGO_HTTP_CAINFO": BUNDLE, "DENO_CERT": CERTIFICATE,
}  # fmt: skip
MOST = 4 * 1024 * 1024
_BEGIN, _END = b"# Sandlot's authority\n", b"# end of Sandlot's authority\n"


def with_authority(bundle: bytes, certificate: bytes) -> bytes:
    """A bundle that ends with the authority, in the place of one of an earlier start."""
    parts, at = [], 0
    # The guest wrote this: it is gone through once, however often a beginning stands in it.
    while (begin := bundle.find(_BEGIN, at)) >= 0 and (end := bundle.find(_END, begin)) >= 0:
        parts.append(bundle[at:begin])
        at = end + len(_END)
    kept = b"".join((*parts, bundle[at:]))
    if kept and not kept.endswith(b"\n"):
        kept += b"\n"
    return kept + _BEGIN + certificate + _END


async def install(files: Files, certificate: bytes) -> None:
    """Let the guest's programs trust an authority: in the bundles that it has, as an anchor for its
    tools, and in a bundle of our own that variables name (`ENVIRONMENT`).

    What the guest makes of its files is its own matter: one that cannot be written is left.
    """
    await files.write(CERTIFICATE, certificate, mode=0o644, parents=True, user="0")
    largest = b""
    for path in BUNDLES:
        try:
            before = await files.read(path, max_size=MOST, user="0")
            after = with_authority(before, certificate)
            largest = max(largest, after, key=len)
            if after != before:
                await files.write(path, after, in_place=True, user="0")
        except FileError:
            continue
    await files.write(BUNDLE, largest or with_authority(b"", certificate), mode=0o644, user="0")
    for folder in ANCHORS:
        try:
            if await files.exists(folder, user="0"):
                await files.write(f"{folder}/sandlot.crt", certificate, mode=0o644, user="0")
        except FileError:
            continue
