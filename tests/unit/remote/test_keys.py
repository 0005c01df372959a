"""Key files, and rings that only their readers open."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandlot.errors import ConfigError, KeyMissing, RemoteDamaged
from sandlot.remote import keys as key_files
from sandlot.remote.keys import (
    Keys,
    Ring,
    checked_recipient,
    new_key_file,
    read_key_file,
    unwrap,
    wrap,
)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stretching takes its time by design, and more on a busy machine."""
    monkeypatch.setattr(key_files, "SCRYPT_N", 1 << 12)


def keys(tmp_path: Path, name: str = "key") -> Keys:
    new_key_file(tmp_path / name)
    return Keys(read_key_file(tmp_path / name))


def test_a_key_file_is_for_its_user_alone_and_never_replaced(tmp_path: Path) -> None:
    recipient = new_key_file(tmp_path / "deep" / "key")
    path = tmp_path / "deep" / "key"
    assert path.stat().st_mode & 0o777 == 0o600
    assert Keys(read_key_file(path)).recipients() == [recipient] == [checked_recipient(recipient)]
    before = path.read_bytes()
    with pytest.raises(ConfigError, match="is there already"):
        new_key_file(path)
    assert path.read_bytes() == before


def test_what_is_no_key_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(KeyMissing, match="does not exist") as caught:
        read_key_file(tmp_path / "none")
    assert "sandlot key new" in caught.value.hint
    for text, why in (("hello\n", "is no key file"), ("AGE-SECRET-KEY-1XYZ\n", "is damaged")):
        (tmp_path / "bad").write_text(text)
        with pytest.raises(ConfigError, match=why):
            read_key_file(tmp_path / "bad")
    with pytest.raises(ConfigError, match="is no recipient"):
        checked_recipient("age1nobody")


def test_each_reader_opens_the_ring_and_nobody_else(tmp_path: Path) -> None:
    mine, theirs, strange = (keys(tmp_path, name) for name in ("a", "b", "c"))
    ring = Ring.new()
    data = wrap(ring, mine, theirs.recipients())
    assert unwrap(data, mine).ring == unwrap(data, theirs).ring == ring
    assert unwrap(data, mine).endorsed and not unwrap(data, theirs).endorsed
    assert set(unwrap(data, mine).recipients) == {*mine.recipients(), *theirs.recipients()}
    with pytest.raises(KeyMissing, match="none of your keys"):
        unwrap(data, strange)
    again = wrap(ring, theirs, strange.recipients())
    assert unwrap(again, strange).ring == ring
    with pytest.raises(KeyMissing):
        unwrap(again, mine)
    assert ring.secret.hex() not in repr(ring) and ring.secret.hex().encode() not in data


def test_a_passphrase_opens_it_and_a_wrong_one_does_not(tmp_path: Path) -> None:
    ring = Ring.new()
    data = wrap(ring, Keys((), "correct horse"))
    opened = unwrap(data, Keys((), "correct horse"))
    assert opened.ring == ring and opened.endorsed
    with pytest.raises(KeyMissing) as caught:
        unwrap(data, Keys((), "wrong"))
    assert "passphrase" in caught.value.hint
    both = wrap(ring, Keys(keys(tmp_path).identities, "x"))
    assert unwrap(both, Keys((), "x")).ring == ring


def test_a_ring_that_a_store_made_is_not_endorsed(tmp_path: Path) -> None:
    mine, store = keys(tmp_path, "a"), keys(tmp_path, "b")
    forged = wrap(Ring.new(), store, mine.recipients())
    assert not unwrap(forged, mine).endorsed


def test_a_ring_needs_somebody(tmp_path: Path) -> None:
    with pytest.raises(KeyMissing, match="no key"):
        wrap(Ring.new(), Keys())


@given(st.binary(max_size=200) | st.text().map(str.encode))
def test_what_is_no_ring_is_refused(data: bytes) -> None:
    with pytest.raises(RemoteDamaged):
        unwrap(data, Keys((), "x"))


values = st.recursive(
    st.none() | st.integers() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["age", "passphrase"]), inner),
)  # fmt: skip


@given(
    st.fixed_dictionaries(
        {"format": st.just(1), "ring": st.just("0" * 32) | values, "to": values, "endorsed": values,
         "recipients": values}
    )
)  # fmt: skip
def test_any_document_ends_in_an_error_of_ours(document: dict[str, object]) -> None:
    with pytest.raises((RemoteDamaged, KeyMissing)):
        unwrap(json.dumps(document).encode(), Keys((), ""))
