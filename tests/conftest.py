"""Fixtures for all tests: a state directory of their own, an image, and the leak check."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import hypothesis
import pytest

STATE = Path(
    os.environ.get("SANDLOT_TEST_STATE") or Path(__file__).parents[1] / ".venv" / "test-state"
)
# The clients of registries, minutes each under emulation, and with what this machine reaches: on
# demand (CONTRIBUTING.md).
collect_ignore = [] if os.environ.get("SANDLOT_TEST_INTERNET") else ["vm/test_internet.py"]
# A machine may be slow or busy; how long an example took says nothing.
hypothesis.settings.register_profile("sandlot", deadline=None)
hypothesis.settings.load_profile("sandlot")
# Set before anything of Sandlot is imported: no test may touch the user's own state.
os.environ["SANDLOT_DATA"] = str(STATE)
os.environ["SANDLOT_RUNTIME"] = str(STATE / "run")
# Nor may one ask a registry outside of this machine.
os.environ["SANDLOT_PULL"] = "never"
for name in ("SANDLOT_REGISTRIES", "SANDLOT_REGISTRY_MIRRORS", "SANDLOT_REGISTRY_CA"):
    os.environ.pop(name, None)
# Nor use the remotes of this user.
os.environ["SANDLOT_REMOTES"] = str(STATE / "remotes.toml")
os.environ.pop("SANDLOT_REMOTE", None)

from sandlot import Sandbox
from sandlot.image import ImageStore, build_debian_image
from sandlot.sandbox.host import Host
from tests.framework.leaks import assert_nothing_left
from tests.framework.secret_upstream import upstream as upstream

NET_PACKAGES = [
    "python3",
    "procps",
    "util-linux",
    "iproute2",
    "curl",
    "ca-certificates",
    "nftables",
]
PACKAGES = ["python3", "procps", "util-linux"]


@pytest.fixture(scope="session")
def image() -> str:
    """The name of an image with Python, built once for all test runs and all workers."""
    import fcntl

    STATE.mkdir(parents=True, exist_ok=True)
    with (STATE / "image.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        store = ImageStore(STATE / "images")
        build_debian_image(store, "test", PACKAGES)
    return "test"


@pytest.fixture(scope="session")
def programs_image(image: str) -> str:
    """The name of an image with the programs that people bring to a network."""
    import fcntl

    with (STATE / "image.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        packages = ["python3", "curl", "ca-certificates", "git", "nodejs"]
        build_debian_image(ImageStore(STATE / "images"), "programs", packages)
    return "programs"


@pytest.fixture(scope="session")
def net_image(image: str) -> str:
    """The name of an image with what the tests of the network use in it."""
    import fcntl

    with (STATE / "image.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        build_debian_image(ImageStore(STATE / "images"), "net", NET_PACKAGES)
    return "net"


@pytest.fixture
async def host() -> Host:
    """The host object that the tests' sandboxes share."""
    return Host.current()


@pytest.fixture
async def sb(image: str) -> AsyncIterator[Sandbox]:
    """A running sandbox, removed after the test; nothing of it may be left."""
    async with Sandbox.create(image=image, memory="512M") as sandbox:
        yield sandbox
    assert not sandbox.folder.path.exists()


@pytest.fixture(autouse=True)
def nothing_left(request: pytest.FixtureRequest) -> Iterator[None]:
    """After a test with machines no process, socket or folder of this worker's is left."""
    yield
    node = request.node
    if node.get_closest_marker("vm") and not node.get_closest_marker("shared_machine"):
        assert_nothing_left(STATE)


@pytest.fixture
def own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A state directory for this test alone, with nothing in it."""
    data = tmp_path / "state"
    monkeypatch.setenv("SANDLOT_DATA", str(data))
    monkeypatch.setenv("SANDLOT_RUNTIME", str(tmp_path / "run"))
    return data


@pytest.fixture
def shared_parts(own_state: Path) -> Path:
    """As `own_state`, but the image and the kernel of all tests are in it."""
    own_state.mkdir(parents=True)
    for name in ("images", "kernels"):
        if (STATE / name).exists():
            (own_state / name).symlink_to(STATE / name)
    return own_state


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything below tests/vm boots machines."""
    for item in items:
        if "/tests/vm/" in str(item.path):
            item.add_marker(pytest.mark.vm)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Tests of one group clear away what the others make, unless one worker has them all."""
    if getattr(session.config.option, "loadgroup", False):  # in a worker of pytest-xdist
        for item in session.items:
            if item.get_closest_marker("xdist_group") and "@" not in item.nodeid:
                raise pytest.UsageError("this pytest ignores the groups of pytest-xdist")
