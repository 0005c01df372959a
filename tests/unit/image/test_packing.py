from __future__ import annotations

import io
import os
import stat
from pathlib import Path

import pytest

from sandlot.image.config import ImageConfig
from sandlot.image.packing import add_image, pack_layer
from sandlot.image.store import ImageStore
from sandlot.image.tar import Member
from sandlot.image.tree import Node
from tests.framework.images import look


def test_entries_come_back(tmp_path: Path) -> None:
    store = ImageStore(tmp_path / "store")
    (tmp_path / "host").write_bytes(b"from the host")
    data = bytes(range(256)) * 40
    sparse = Node(stat.S_IFREG | 0o600, size=1_000_000)
    with store.working():
        with pack_layer(store.blobs) as packer:
            packer.tar.add(tmp_path / "host", arcname="etc/host")
            packer.add(Member(b"bin", Node(stat.S_IFDIR | 0o1777, 1, 2, 3, 4)))
            packer.add(
                Member(
                    b"bin/\xff" + b"n" * 200,
                    Node(
                        stat.S_IFREG | 0o4755, 1 << 31, 70_000, -3, 250_000_000, len(data),
                        xattrs={b"security.capability": b"\x01\0\0\x02\xff\n=", b"user.a": b""},
                    ),
                    content=io.BytesIO(data),
                )
            )  # fmt: skip
            packer.add(Member(b"hard", None, link=b"etc/host"))
            packer.add(Member(b"soft", Node(stat.S_IFLNK | 0o777, target=b"\xfe/x")))
            packer.add(Member(b"null", Node(stat.S_IFCHR | 0o666, device=(1, 3))))
            packer.add(
                Member(
                    b"sparse", sparse, content=io.BytesIO(b"abcd"),
                    extents=[(5, 2), (999_998, 2)],
                )
            )  # fmt: skip
        image = add_image(
            store, "demo", ImageConfig(cmd=("x",), labels={"a": "b"}), [packer.layer],
            history=[{"created_by": "test"}],
        )  # fmt: skip
    assert image.config.cmd == ("x",) and image.config.labels == {"a": "b"}
    reader, found = look(store, image, tmp_path / "device")
    file = found[b"bin/\xff" + b"n" * 200]
    assert (file.mode, file.uid, file.gid, file.mtime) == (
        stat.S_IFREG | 0o4755, 1 << 31, 70_000, (-3, 250_000_000)
    )  # fmt: skip
    assert file.xattrs == {b"security.capability": b"\x01\0\0\x02\xff\n=", b"user.a": b""}
    assert reader.data(file) == data and reader.data(found[b"soft"]) == b"\xfe/x"
    assert found[b"hard"].nid == found[b"etc/host"].nid and found[b"null"].device == (1, 3)
    whole = reader.data(found[b"sparse"])
    assert whole[:10] == bytes(5) + b"ab" + bytes(3) and whole[-4:] == bytes(2) + b"cd"
    assert found[b"bin"].mtime == (3, 4) and found[b"bin"].mode == stat.S_IFDIR | 0o1777
    reader.close()


def test_equal_files_make_an_equal_image(tmp_path: Path) -> None:
    ids = []
    for number in range(2):
        store = ImageStore(tmp_path / str(number))
        with store.working():
            with pack_layer(store.blobs) as packer:
                packer.add(Member(b"a", Node(stat.S_IFREG | 0o644)))
            ids.append(add_image(store, "demo", ImageConfig(), [packer.layer]).digest)
    assert ids[0] == ids[1]


def test_a_failure_leaves_nothing(tmp_path: Path) -> None:
    store = ImageStore(tmp_path)
    with pytest.raises(FileNotFoundError), store.working(), pack_layer(store.blobs) as packer:
        packer.tar.add(os.fspath(tmp_path / "missing"))
    assert {path.name for path in tmp_path.rglob("*") if path.is_file()} == {"lock", "work.lock"}
