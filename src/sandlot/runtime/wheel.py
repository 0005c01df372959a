"""The package that a guest is offered: `sandlot` as its programs import it, in one wheel.

It is made here, from `lent.py` and `lent_sync.py` alone, so that no guest needs a network: it can be
imported as it is (a wheel is a zip archive), and installed by pip.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import io
import zipfile
from pathlib import Path

SOURCE = Path(__file__).with_name("lent.py")
SYNC_SOURCE = Path(__file__).with_name("lent_sync.py")
_OURS, _THEIRS = b"from sandlot.runtime import lent\n", b"import sandlot as lent\n"
_EPOCH = (1980, 1, 1, 0, 0, 0)


def wheel_name(version: str) -> str:
    """What its file is called."""
    return f"sandlot-{version}-py3-none-any.whl"


@functools.cache
def wheel(version: str) -> bytes:
    """The wheel. The same source and version give the same bytes."""
    info = f"sandlot-{version}.dist-info"
    files = {
        "sandlot/__init__.py": SOURCE.read_bytes() + f"\n__version__ = {version!r}\n".encode(),
        "sandlot/sync.py": SYNC_SOURCE.read_bytes().replace(_OURS, _THEIRS),
        "sandlot/py.typed": b"",
        f"{info}/METADATA": (
            f"Metadata-Version: 2.1\nName: sandlot\nVersion: {version}\n"
            "Summary: Sandboxes beside this one, as far as its owner lends them\n"
            "Requires-Python: >=3.9\nLicense: Apache-2.0\n"
        ).encode(),
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: sandlot\nRoot-Is-Purelib: true\n"
        b"Tag: py3-none-any\n",
    }
    record = "".join(f"{name},{_digest(data)},{len(data)}\n" for name, data in files.items())
    files[f"{info}/RECORD"] = f"{record}{info}/RECORD,,\n".encode()
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, data in files.items():
            entry = zipfile.ZipInfo(name, _EPOCH)
            entry.external_attr = 0o644 << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, data)
    return packed.getvalue()


def _digest(data: bytes) -> str:
    digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=")
    return f"sha256={digest.decode()}"
