from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from sandlot.errors import ConfigError
from sandlot.remote.opening import open_plainly, open_store


def test_every_kind_has_its_store() -> None:
    kinds = {
        "/mnt/a": ("FolderStore", "/mnt/a"),
        "s3://bucket/a?endpoint=http://127.0.0.1:1": ("S3Store", "s3://bucket/a"),
        "oci://127.0.0.1:1/a": ("OciStore", "oci://127.0.0.1:1/a"),
        "ssh://me@host:22/~/a": ("SftpStore", "ssh://me@host:22/~/a"),
    }
    for address, (name, shown) in kinds.items():
        store = open_plainly(address)
        assert (type(store).__name__, store.address) == (name, shown)
        assert open_store(address).address == shown


async def test_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    async with open_store("~/a") as store:
        await store.put("x", b"1")
    assert (tmp_path / "a/x").read_bytes() == b"1"


@pytest.mark.parametrize(
    ("address", "module", "extra"),
    [("s3://bucket", "obstore.store", "s3"), ("ssh://host/a", "asyncssh", "ssh")],
)
def test_an_extra_that_is_missing(
    address: str, module: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ConfigError, match="needs the package") as caught:
        open_store(address)
    assert caught.value.hint == f"pip install 'sandlot[{extra}]'"


def test_only_what_is_needed_is_imported() -> None:
    code = (
        "import sys; from sandlot.remote.opening import open_store; open_store('/tmp/x');"
        "print([n for n in ('obstore', 'botocore', 'asyncssh') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
