from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import sandlot
from sandlot import sync
from tests.framework.fake_registry import FakeRegistry, layer


@pytest.mark.parametrize(
    ("origin", "facade"),
    [
        (sandlot.build_image, sync.build_image),
        (sandlot.ImageStore.pull, sync.ImageStore.pull),
    ],
)
def test_the_signatures_are_equal(
    origin: Callable[..., object], facade: Callable[..., object]
) -> None:
    ours, theirs = (inspect.signature(each).parameters.values() for each in (origin, facade))
    assert [(p.name, p.kind, p.default) for p in ours] == [
        (p.name, p.kind, p.default) for p in theirs
    ]
    assert not inspect.iscoroutinefunction(facade)


@pytest.fixture
def host() -> Iterator[str]:
    """A registry in an event loop of another thread."""
    ready, loop = threading.Event(), asyncio.new_event_loop()
    found: list[str] = []
    over = asyncio.Event()

    async def serve() -> None:
        async with FakeRegistry() as fake:
            fake.add("app:1", [layer({"a": b"x"})])
            found.append(fake.host)
            ready.set()
            await over.wait()

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()))
    thread.start()
    ready.wait(30)
    yield found[0]
    loop.call_soon_threadsafe(over.set)
    thread.join()
    loop.close()


def test_pulling(host: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    store = sync.ImageStore(tmp_path / "images")
    assert store.pull(f"{host}/app:1").config.cmd == ("/bin/true",)


def test_building(own_state: Path, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM scratch\nCOPY Dockerfile /\n")
    assert sync.build_image(tmp_path, "made").name == "made:latest"
