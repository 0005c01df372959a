"""Pulling from a real registry, which another tool has filled."""

from __future__ import annotations

import asyncio
import base64
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sandlot.errors import ImageError, ImageNotFound, RegistryError
from sandlot.image import ImageStore
from sandlot.image.config import host_architecture
from tests.framework.fake_registry import layer
from tests.framework.registry import (
    RealRegistry,
    make_authority,
    make_layout,
    real_registry,
    require,
    small_layout,
)
from tests.framework.token_server import IDENTITY, TokenServer, token_server

HTPASSWD = "sandlot:$2y$05$gTU7vNOipNHqvOmQcIvsf.v34TPjf4SqmMsafAl37vduMgw9zgFl6\n"
FOREIGN = "arm64" if host_architecture() != "arm64" else "amd64"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No settings and no credentials but the test's own."""
    for name in (
        "XDG_CONFIG_HOME", "XDG_RUNTIME_DIR", "DOCKER_CONFIG", "REGISTRY_AUTH_FILE",
        "SANDLOT_INSECURE_REGISTRIES",
    ):  # fmt: skip
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    require("docker-registry", "skopeo", "openssl")
    return tmp_path / "home"


@pytest.fixture
def store(tmp_path: Path) -> ImageStore:
    return ImageStore(tmp_path / "images")


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[RealRegistry]:
    with real_registry(tmp_path / "registry") as made:
        yield made


def log_in(home: Path, host: str, **entry: str) -> None:
    path = home / ".docker/config.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"auths": {host: entry}}))


def password(word: str) -> str:
    return base64.b64encode(f"sandlot:{word}".encode()).decode()


async def test_pull_and_pull_again(
    registry: RealRegistry, store: ImageStore, tmp_path: Path
) -> None:
    registry.copy(small_layout(tmp_path / "one", "a", "b"), "team/app:1.0")
    stages: list[str] = []
    name = f"{registry.host}/team/app:1.0"
    image = await store.pull(name, progress=lambda stage, fraction: stages.append(stage))
    assert image.name == name and image.config.cmd == ("/bin/true",)
    assert store.get(name).digest == image.digest
    assert any("2 layers" in stage for stage in stages)
    blobs = registry.requests("/blobs/")
    again = await store.pull(name)
    assert again.digest == image.digest
    assert registry.requests("/blobs/") == blobs
    assert registry.requests('"HEAD /v2/team/app/manifests/') >= 1


async def test_by_digest(registry: RealRegistry, store: ImageStore, tmp_path: Path) -> None:
    digest = registry.copy(small_layout(tmp_path / "one", "a"), "app:1")
    assert (await store.pull(f"{registry.host}/app@{digest}")).digest
    wrong = "sha256:" + "0" * 64
    with pytest.raises(ImageNotFound, match="there is no image sha256:0000"):
        await store.pull(f"{registry.host}/app@{wrong}")


async def test_a_tag_that_moved_and_layers_that_are_shared(
    registry: RealRegistry, store: ImageStore, tmp_path: Path
) -> None:
    name = f"{registry.host}/app:1"
    registry.copy(small_layout(tmp_path / "one", "base", "first"), "app:1")
    old = await store.pull(name)
    before = registry.requests('"GET /v2/app/blobs/')
    assert before == 3  # two layers and a configuration
    registry.copy(small_layout(tmp_path / "two", "base", "second"), "app:1")
    before = registry.requests('"GET /v2/app/blobs/')
    new = await store.pull(name)
    assert new.digest != old.digest and store.get(name).digest == new.digest
    assert registry.requests('"GET /v2/app/blobs/') - before == 2


async def test_platforms(registry: RealRegistry, store: ImageStore, tmp_path: Path) -> None:
    own, other = layer({"own": b"1"}), layer({"other": b"2"})
    layout = make_layout(tmp_path / "both", {host_architecture(): [own], FOREIGN: [other]})
    registry.copy(layout, "app:both")
    registry.copy(make_layout(tmp_path / "foreign", {FOREIGN: [other]}), "app:foreign")
    name = f"{registry.host}/app:both"
    native = await store.pull(name)
    assert native.config.architecture == host_architecture()
    foreign = await store.pull(name, platform=f"linux/{FOREIGN}")
    assert foreign.config.architecture == FOREIGN and foreign.id != native.id
    with pytest.raises(ImageError, match="riscv64") as caught:
        await store.pull(name, platform="linux/riscv64")
    assert "--platform" in caught.value.hint
    blobs = registry.requests("/blobs/")
    with pytest.raises(ImageError, match=FOREIGN):
        await store.pull(f"{registry.host}/app:foreign")
    assert registry.requests("/blobs/") - blobs <= 1  # its configuration at most


async def test_what_is_missing(registry: RealRegistry, store: ImageStore, tmp_path: Path) -> None:
    registry.copy(small_layout(tmp_path / "one", "a"), "app:3.12")
    with pytest.raises(ImageNotFound, match=r"there is no tag 3\.13 in") as caught:
        await store.pull(f"{registry.host}/app:3.13")
    assert "3.12" in caught.value.hint
    with pytest.raises(ImageNotFound, match="there is no"):
        await store.pull(f"{registry.host}/other:1")
    assert not store.list()


async def test_a_certificate_of_an_own_authority(
    store: ImageStore, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority, certificate, key = make_authority(tmp_path / "tls")
    with real_registry(tmp_path / "registry", tls=(certificate, key)) as registry:
        registry.copy(small_layout(tmp_path / "one", "a"), "app:1")
        name = f"{registry.host}/app:1"
        with pytest.raises(RegistryError, match=r"certificate of .* is not trusted") as caught:
            await store.pull(name)
        assert "SANDLOT_REGISTRY_CA" in caught.value.hint
        monkeypatch.setenv("SANDLOT_REGISTRY_CA", str(authority))
        assert (await store.pull(name)).name == name
        monkeypatch.delenv("SANDLOT_REGISTRY_CA")
        folder = home / ".docker/certs.d" / registry.host
        folder.mkdir(parents=True)
        (folder / "ca.crt").write_bytes(authority.read_bytes())
        assert (await store.pull(name)).name == name


async def test_a_password(store: ImageStore, home: Path, tmp_path: Path) -> None:
    (tmp_path / "htpasswd").write_text(HTPASSWD)
    auth = f"auth: {{htpasswd: {{realm: test, path: {tmp_path / 'htpasswd'}}}}}"
    with real_registry(tmp_path / "registry", auth=auth) as registry:
        layout = small_layout(tmp_path / "one", "a")
        registry.copy(layout, "app:1", "--dest-creds=sandlot:secret")
        name = f"{registry.host}/app:1"
        with pytest.raises(RegistryError, match="needs a login") as caught:
            await store.pull(name)
        assert caught.value.status == 401 and "login" in caught.value.hint
        log_in(home, registry.host, auth=password("wrong"))
        with pytest.raises(RegistryError, match="refused the credentials of sandlot"):
            await store.pull(name)
        log_in(home, registry.host, auth=password("secret"))
        assert (await store.pull(name)).name == name


@pytest.fixture
def tokens(tmp_path: Path) -> Iterator[TokenServer]:
    with token_server(tmp_path / "tokens") as made:
        yield made


async def test_bearer_tokens(
    tokens: TokenServer, store: ImageStore, home: Path, tmp_path: Path
) -> None:
    with real_registry(tmp_path / "registry", auth=tokens.auth()) as registry:
        layout = small_layout(tmp_path / "one", "a", "b", "c")
        for name in ("public/app:1", "private/app:1"):
            registry.copy(layout, name, "--dest-creds=sandlot:secret")
        tokens.asked.clear()
        assert await store.pull(f"{registry.host}/public/app:1")
        assert tokens.asked == ["GET repository:public/app:pull"]  # one for all requests
        private = f"{registry.host}/private/app:1"
        with pytest.raises(RegistryError, match="does not exist, or needs a login"):
            await store.pull(private)
        log_in(home, registry.host, auth=password("wrong"))
        with pytest.raises(RegistryError, match="refused the credentials of sandlot"):
            await store.pull(private)
        log_in(home, registry.host, auth=password("secret"))
        assert (await store.pull(private)).name == private
        log_in(home, registry.host, identitytoken=IDENTITY)
        tokens.asked.clear()
        assert (await store.pull(private)).name == private
        assert tokens.asked == ["POST repository:private/app:pull"]


PULL = """
import asyncio, sys
from pathlib import Path
from sandlot.image import ImageStore
print(asyncio.run(ImageStore(Path(sys.argv[1])).pull(sys.argv[2])).digest)
"""


async def test_two_programs_download_once(
    registry: RealRegistry, store: ImageStore, tmp_path: Path
) -> None:
    layers = [layer({f"big{n}": bytes([n]) * 3_000_000}) for n in range(3)]
    registry.copy(make_layout(tmp_path / "big", {host_architecture(): layers}), "app:1")
    before = registry.requests('"GET /v2/app/blobs/')
    command = [sys.executable, "-c", PULL, str(store.root), f"{registry.host}/app:1"]
    programs = [
        await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE) for _ in range(2)
    ]
    digests = {(await program.communicate())[0] for program in programs}
    assert [program.returncode for program in programs] == [0, 0] and len(digests) == 1
    assert registry.requests('"GET /v2/app/blobs/') - before == 4
