"""What was written over an image."""

from __future__ import annotations

import hashlib
import io
import tarfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandlot.errors import FileError, GuestProtocolError, SandboxError
from sandlot.files.layer import Entry, LayerReader


def layer(*members: tuple[str, bytes | None, str], link: str = "") -> bytes:
    """A layer as an agent sends it: (name, contents, type)."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, data, kind in members:
            info = tarfile.TarInfo(name)
            info.type, info.size, info.linkname = kind.encode(), len(data or b""), link
            info.mode = 0o755 if kind == "5" else 0o644
            tar.addfile(info, io.BytesIO(data or b""))
    return out.getvalue()[: (sum(512 + len(d or b"") + -len(d or b"") % 512 for _, d, _ in members)
                             + 1024)]  # fmt: skip


LAYER = layer(
    ("etc/", None, "5"), ("etc/a", b"hello", "0"), ("etc/.wh.gone", b"", "0"),
    ("new/", None, "5"), ("new/.wh..wh..opq", b"", "0"), ("new/empty", b"", "0"),
)  # fmt: skip


@given(st.lists(st.integers(0, len(LAYER)), max_size=6))
def test_entries_whiteouts_and_opaque_folders(cuts: list[int]) -> None:
    reader = LayerReader(len(LAYER))
    last = 0
    for cut in [*sorted(cuts), len(LAYER)]:
        reader.feed(LAYER[last:cut])
        last = cut
    reader.finish()
    hello, nothing = (hashlib.sha256(data).digest() for data in (b"hello", b""))
    assert reader.entries == {
        (b"etc",): Entry("directory", 0o755, 0, 0),
        (b"etc", b"a"): Entry("file", 0o644, 0, 0, 5, b"", hello),
        (b"new",): Entry("directory", 0o755, 0, 0),
        (b"new", b"empty"): Entry("file", 0o644, 0, 0, 0, b"", nothing),
    }
    assert reader.removed == {(b"etc", b"gone")} and reader.opaque == {(b"new",)}


def test_hard_links_are_what_they_link_to() -> None:
    reader = LayerReader(1 << 20)
    reader.feed(layer(("a", b"x", "0"), ("b", None, "1"), link="a"))
    reader.finish()
    assert reader.entries[(b"a",)] == reader.entries[(b"b",)]
    with pytest.raises(GuestProtocolError, match="links to what was not in it"):
        LayerReader(1 << 20).feed(layer(("b", None, "1"), link="a"))


def test_what_a_guest_may_not_send() -> None:
    with pytest.raises(GuestProtocolError, match="more than its disk"):
        LayerReader(100).feed(LAYER)
    reader = LayerReader(1 << 20)
    reader.feed(LAYER[:-1024])
    with pytest.raises(GuestProtocolError, match="cut off"):
        reader.finish()
    with pytest.raises(GuestProtocolError, match="leads out"):
        LayerReader(1 << 20).feed(layer(("../a", b"x", "0")))
    with pytest.raises(FileError, match="etc/b"):
        LayerReader(1 << 20).feed(layer(("etc/b", b"bad", "F")))


@given(st.binary(max_size=2000), st.integers(0, 3000))
def test_any_bytes(noise: bytes, at: int) -> None:
    data = LAYER[:at] + noise + LAYER[at + len(noise) :]
    reader = LayerReader(1 << 20)
    try:
        reader.feed(data)
        reader.finish()
    except SandboxError:
        return
    assert not any(b".." in parts or b"" in parts for parts in reader.entries)
