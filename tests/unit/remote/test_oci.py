from __future__ import annotations

import base64
import json
import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from sandlot.errors import BlobNotFound, RegistryError, RemoteFull, RemoteRefused, RemoteUnreachable
from sandlot.image.digest import digest_of
from sandlot.remote.artifact import EMPTY, descriptor
from sandlot.remote.oci import OciStore
from sandlot.remote.patience import PatientStore
from sandlot.testing import BlobStoreSuite
from tests.framework.faulty import FakeClock
from tests.framework.registry import RealRegistry, real_registry
from tests.framework.remotes import registry as registry
from tests.framework.token_server import token_server

pytestmark = pytest.mark.xdist_group("remotes")

HTPASSWD = "sandlot:$2y$05$gTU7vNOipNHqvOmQcIvsf.v34TPjf4SqmMsafAl37vduMgw9zgFl6\n"


class TestOci(BlobStoreSuite):
    @pytest.fixture(autouse=True)
    def _server(self, registry: RealRegistry) -> None:
        self.server = registry

    def make(self, place: str) -> PatientStore:
        return PatientStore(OciStore(self.server.host, f"suite/{place}"))


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No settings and no credentials but the test's own."""
    for name in ("XDG_CONFIG_HOME", "XDG_RUNTIME_DIR", "DOCKER_CONFIG", "REGISTRY_AUTH_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def log_in(home: Path, host: str, word: str) -> None:
    path = home / ".docker/config.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    auth = base64.b64encode(f"sandlot:{word}".encode()).decode()
    path.write_text(json.dumps({"auths": {host: {"auth": auth}}}))


async def test_a_password(home: Path, tmp_path: Path) -> None:
    (tmp_path / "htpasswd").write_text(HTPASSWD)
    auth = f"auth: {{htpasswd: {{realm: test, path: {tmp_path / 'htpasswd'}}}}}"
    with real_registry(tmp_path / "registry", auth=auth) as server:
        async with OciStore(server.host, "app") as store:
            with pytest.raises(RemoteRefused, match="needs a login") as caught:
                await store.put("a", b"1")
            assert "docker login" in caught.value.hint
        log_in(home, server.host, "wrong")
        async with OciStore(server.host, "app") as store:
            with pytest.raises(RemoteRefused, match="refused the credentials of sandlot"):
                await store.put("a", b"1")
        log_in(home, server.host, "secret")
        async with OciStore(server.host, "app") as store:
            await store.put("a", b"1")
            assert await store.get("a") == b"1"


async def test_one_token_for_all_that_is_done(home: Path, tmp_path: Path) -> None:
    with (
        token_server(tmp_path / "tokens") as tokens,
        real_registry(tmp_path / "registry", auth=tokens.auth()) as server,
    ):
        log_in(home, server.host, "secret")
        async with OciStore(server.host, "app") as store:
            for number in range(3):
                await store.put(f"packs/{number}", b"1")
                await store.delete(f"packs/{number}")
                await store.replace(f"heads/{number}", b"1", None)
            assert len(tokens.asked) <= 3, tokens.asked
            assert tokens.asked[-1] == "GET repository:app:pull,push,delete"


@pytest.fixture
def keeping(tmp_path: Path) -> Iterator[RealRegistry]:
    """A registry that removes nothing."""
    with real_registry(tmp_path / "registry", removes=False) as server:
        yield server


async def test_a_registry_that_removes_nothing(keeping: RealRegistry) -> None:
    async with OciStore(keeping.host, "app") as store:
        await store.put("packs/a", b"1")
        await store.put("packs/b", b"2")
        await store.delete("packs/a")
        assert not await store.has("packs/a")
        with pytest.raises(BlobNotFound):
            await store.get("packs/a")
        assert [blob.key async for blob in store.list()] == ["packs/b"]
        await store.put("packs/a", b"3")
        assert await store.get("packs/a") == b"3"
        version = await store.replace("heads/x", b"0", None)
        for number in range(1, 6):
            version = await store.replace("heads/x", b"%d" % number, version)
        assert await store.read("heads/x") == (b"5", version)
        await store.delete("heads/x")
        assert not await store.has("heads/x")


async def test_a_repository_of_something_else(registry: RealRegistry) -> None:
    place = f"t{secrets.token_hex(6)}"
    async with OciStore(registry.host, place) as store:
        await store._client.push_blob(EMPTY, digest_of(EMPTY))
        image = {
            "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": descriptor(EMPTY, "application/vnd.oci.image.config.v1+json"), "layers": [],
        }  # fmt: skip
        await store._client.push_manifest("latest", json.dumps(image).encode())
        with pytest.raises(RemoteRefused, match="a tag latest that is not of Sandlot") as caught:
            [blob async for blob in store.list()]
        assert "of its own" in caught.value.hint


async def test_old_versions_are_tidied_away(registry: RealRegistry) -> None:
    place = f"t{secrets.token_hex(6)}"
    async with OciStore(registry.host, place, clock=FakeClock()) as store:
        version = None
        for number in range(8):
            version = await store.replace("heads/x", b"%d" % number, version)
        tags = await store._client.all_tags()
        # Three decided versions with their promises and acceptances, and the mark.
        assert len(tags) <= 4 * 3 + 1, sorted(tags)


async def test_a_blob_that_the_registry_lost_meanwhile_is_pushed_again(
    registry: RealRegistry,
) -> None:
    """As when two push its empty blob at once, which makes some forget it."""
    async with OciStore(registry.host, f"t{secrets.token_hex(6)}") as store:
        store._has_empty = True
        with pytest.raises(RemoteUnreachable, match="blob"):
            await store.put("a", b"1")
        await store.put("a", b"1")
        assert await store.get("a") == b"1"


async def test_the_time_is_the_registrys(registry: RealRegistry) -> None:
    async with OciStore(registry.host, f"t{secrets.token_hex(6)}") as store:
        await store.put("a", b"1")
        (blob,) = [blob async for blob in store.list()]
        assert blob.modified is not None and blob.modified > 1_700_000_000


@pytest.mark.parametrize(
    ("status", "words", "kind"),
    [
        (500, "write: no space left on device", RemoteFull), (403, "quota exceeded", RemoteFull),
        (503, "busy", RemoteUnreachable), (429, "slow down", RemoteUnreachable),
        (404, "upload unknown", RemoteUnreachable), (400, "tag is immutable", RemoteRefused),
    ],
)  # fmt: skip
def test_what_answers_mean(status: int, words: str, kind: type[Exception]) -> None:
    store = OciStore("127.0.0.1:1", "app")
    with pytest.raises(kind, match=f"cannot keep a: .*{words}"), store._telling("keep a"):
        raise RegistryError(f"it answered with {status}: {words}", status=status)
