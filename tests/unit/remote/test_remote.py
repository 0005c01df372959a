"""Remotes as users hold them."""

from __future__ import annotations

from pathlib import Path

import pytest

from sandlot import ConfigError, KeyMissing, Remote, RemoteDamaged, Volume
from sandlot.remote import keys as key_files
from sandlot.remote.keys import Keys, new_key_file, read_key_file
from sandlot.remote.place import Place
from sandlot.remote.remote import origin, target


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stretching takes its time by design, and more on a busy machine."""
    monkeypatch.setattr(key_files, "SCRYPT_N", 1 << 12)


@pytest.fixture
async def volume(own_state: Path) -> Volume:
    made = await Volume.create("data")
    (made.path / "file").write_text("hello")
    return made


async def test_names_are_listed_forgotten_and_collected(volume: Volume, tmp_path: Path) -> None:
    new_key_file(tmp_path / "key")
    remote = Remote(str(tmp_path / "r"), key=tmp_path / "key")
    await volume.push(remote)
    await volume.push(remote, "twice")
    assert [(each.name, each.kind, len(each.versions)) for each in await remote.list()] == [
        ("data", "volume", 1), ("twice", "volume", 1),
    ]  # fmt: skip
    await remote.forget("data")
    assert [each.name for each in await remote.list()] == ["twice"]
    assert (await remote.gc()).freed > 0
    await Volume.pull("twice", "back", remote=remote)


async def test_readers_come_and_go(
    volume: Volume, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine, theirs = new_key_file(tmp_path / "a"), new_key_file(tmp_path / "b")
    address = str(tmp_path / "r")
    me, them = (Remote(address, key=tmp_path / name) for name in ("a", "b"))
    await volume.push(me)
    with pytest.raises(KeyMissing):
        await them.list()
    both = await me.rotate(add=[theirs])
    assert set(both.recipients) == {mine, theirs} and both.endorsed and not both.passphrase
    assert await me.readers() == both
    found = await them.readers()
    assert found.fingerprint == both.fingerprint and not found.endorsed
    with pytest.raises(ConfigError, match="your own key"):
        await me.rotate(remove=[mine])
    # Nothing proves to them that the store has not made the keys itself, until they are told.
    monkeypatch.setenv("SANDLOT_DATA", str(tmp_path / "their-machine"))
    with pytest.raises(KeyMissing, match="nothing proves") as caught:
        await them.list()
    assert found.fingerprint in caught.value.hint
    with pytest.raises(RemoteDamaged, match="has the fingerprint"):
        await Remote(address, key=tmp_path / "b", fingerprint="0" * 32).list()
    told = Remote(address, key=tmp_path / "b", fingerprint=found.fingerprint)
    assert len(await told.list()) == len(await them.list()) == 1  # once is enough
    assert (await them.rotate(remove=[mine])).recipients == (theirs,)
    with pytest.raises(KeyMissing):
        await me.list()
    assert len(await them.list()) == 1


async def test_a_passphrase_alone_does(
    volume: Volume, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SANDLOT_KEY", str(tmp_path / "none"))
    address = str(tmp_path / "r")
    with pytest.raises(KeyMissing, match="does not exist"):
        await volume.push(address)
    assert not (tmp_path / "r" / "keys").exists()
    (tmp_path / "phrase").write_text("correct horse\n")
    monkeypatch.setenv("SANDLOT_PASSPHRASE_FILE", str(tmp_path / "phrase"))
    await volume.push(address)
    recipient = new_key_file(tmp_path / "key")
    readers = await Remote(address).rotate(add=[recipient])
    assert readers.passphrase and readers.recipients == (recipient,)
    monkeypatch.delenv("SANDLOT_PASSPHRASE_FILE")
    assert len(await Remote(address, key=tmp_path / "key").list()) == 1
    after = await Remote(address, key=tmp_path / "key").rotate(passphrase="")
    assert not after.passphrase
    with pytest.raises(KeyMissing):
        await Remote(address, passphrase="correct horse").list()


def test_where_to_push_and_pull() -> None:
    remote, name = target("/x#web", None)
    assert repr(remote) == "<Remote /x>" and name == "web"
    assert target("backup", "n")[1] == "n" and repr(target(None, None)[0]) == "<Remote default>"
    for to, called in (("/x#web@2", None), ("/x#web", "other")):
        with pytest.raises(ConfigError, match="makes a new version"):
            target(to, called)
    assert origin("web@2", None)[1] == Place("", "web", 2)
    given = Remote("/x")
    assert origin("", given) == (given, Place("given"))
    with pytest.raises(ConfigError, match="a remote was given"):
        origin("/x#a", given)
    with pytest.raises(ConfigError, match="rate"):
        Remote("/x", rate="fast")


async def test_what_is_slow_is_as_slow_as_asked(volume: Volume, tmp_path: Path) -> None:
    new_key_file(tmp_path / "key")
    done = await volume.push(Remote(str(tmp_path / "r"), key=tmp_path / "key", rate="100M"))
    assert done.version == 1
    assert Keys(read_key_file(tmp_path / "key")).recipients()
