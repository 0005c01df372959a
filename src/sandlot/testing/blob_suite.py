"""`BlobStoreSuite`: what every store of a remote has to do, as tests that pytest finds."""

from __future__ import annotations

import asyncio
import inspect
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from typing import Any

from sandlot.errors import BlobChanged, BlobNotFound, ConfigError
from sandlot.remote.store import MAX_BLOB, Blob, BlobStore

WRITERS = 6


class BlobStoreSuite:
    """Subclass it, and give `make`; each check becomes a test.

    Attributes:
        timeout: seconds that one test may take.

    Example:
        >>> class TestMine(BlobStoreSuite):
        ...     def make(self, place):
        ...         return MyStore(f"mine://server/{place}")
    """

    timeout: float = 200.0

    def make(self, place: str) -> BlobStore:
        """Open a store. Each test has a `place` of its own, which is empty at first, and may open
        it several times: then all are to see the same blobs. `place` is of `[a-z0-9]`."""
        # Not abstract: the tests are made when a class is, and the first one says what is missing.
        raise NotImplementedError("give the suite a store: override `make`")

    def unmake(self, place: str) -> None:
        """Clean up after a test."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        for name, check in inspect.getmembers(cls, inspect.isfunction):
            if name.startswith("check_"):
                setattr(cls, f"test_{name.removeprefix('check_')}", _test(name, check.__doc__))

    async def _run(self, name: str) -> None:
        place = f"t{secrets.token_hex(8)}"
        check = getattr(self, name)
        try:
            async with AsyncExitStack() as stack:
                stores = [
                    await stack.enter_async_context(self.make(place))
                    for _ in inspect.signature(check).parameters
                ]
                await asyncio.wait_for(check(*stores), self.timeout)
        finally:
            self.unmake(place)

    # Section: what is put

    async def check_put_and_get(self, store: BlobStore) -> None:
        """What was put comes back, byte for byte."""
        data = bytes(range(256)) * 300
        await store.put("packs/0a/0a1b2c", data)
        assert await store.get("packs/0a/0a1b2c") == data

    async def check_empty_blob(self, store: BlobStore) -> None:
        """A blob may be empty."""
        await store.put("empty", b"")
        assert await store.get("empty") == b""
        assert await store.has("empty")
        assert await listed(store) == {"empty": 0}

    async def check_large_blob(self, store: BlobStore) -> None:
        """A blob may have 64 MiB, and no more."""
        data = secrets.token_bytes(1 << 20) * (MAX_BLOB >> 20)
        await store.put("packs/large", data)
        assert await store.get("packs/large") == data
        with raises(ConfigError):
            await store.put("packs/larger", data + b"x")
        assert not await store.has("packs/larger")

    async def check_parts(self, store: BlobStore) -> None:
        """Parts of a blob, as far as there is one."""
        await store.put("packs/one", b"0123456789")
        assert await store.get("packs/one", start=3) == b"3456789"
        assert await store.get("packs/one", length=4) == b"0123"
        assert await store.get("packs/one", start=2, length=5) == b"23456"
        assert await store.get("packs/one", start=8, length=100) == b"89"
        assert await store.get("packs/one", start=10) == b""
        assert await store.get("packs/one", start=20, length=5) == b""
        assert await store.get("packs/one", start=1, length=0) == b""
        for start, length in ((-1, None), (0, -1)):
            with raises(ConfigError):
                await store.get("packs/one", start=start, length=length)

    async def check_put_again(self, store: BlobStore) -> None:
        """A later put wins, a shorter one too."""
        await store.put("index/a", b"the first content")
        await store.put("index/a", b"second")
        assert await store.get("index/a") == b"second"
        assert await store.get("index/a", start=2) == b"cond"
        assert await listed(store) == {"index/a": 6}

    async def check_missing(self, store: BlobStore) -> None:
        """What is not there says so, and deleting it is no error."""
        with raises(BlobNotFound, LookupError):
            await store.get("packs/none")
        with raises(BlobNotFound):
            await store.get("packs/none", start=3, length=4)
        with raises(BlobNotFound):
            await store.read("heads/none")
        assert not await store.has("packs/none")
        await store.delete("packs/none")
        assert await listed(store) == {}

    async def check_delete(self, store: BlobStore) -> None:
        """A blob that was deleted is gone, the others stay, and it can be put again."""
        await store.put("packs/one", b"1")
        await store.put("packs/two", b"1")
        await store.delete("packs/one")
        await store.delete("packs/one")
        assert not await store.has("packs/one")
        with raises(BlobNotFound):
            await store.get("packs/one")
        assert await listed(store) == {"packs/two": 1}
        await store.put("packs/one", b"anew")
        assert await store.get("packs/one") == b"anew"

    async def check_equal_contents(self, store: BlobStore) -> None:
        """Blobs of the same content are two: one stays when the other is deleted."""
        await asyncio.gather(*(store.put(f"packs/{n}", b"the same") for n in range(5)))
        await store.delete("packs/3")
        assert await listed(store) == {f"packs/{n}": 8 for n in (0, 1, 2, 4)}
        assert await store.get("packs/4") == b"the same"

    async def check_keys(self, store: BlobStore) -> None:
        """Every key that is allowed, and none that is not."""
        good = [
            "a", "0", "_", "a-b.c_d", "c/b/c/d/e/f", "x" * 200, "/".join(["ab"] * 66), "d.b/c..d",
            "v1.2-3",
        ]  # fmt: skip
        for key in good:
            await store.put(key, key.encode())
        assert await listed(store) == {key: len(key) for key in good}
        for key in good:
            assert await store.get(key) == key.encode()
        bad = [
            "", "/", "a/", "/a", "a//b", "A", "ä", "a b", ".", "..", "a/../b", "a/.b", "-a",
            "x" * 201, "a\n", "a\0b",
        ]  # fmt: skip
        for key in bad:
            for call in (store.get, store.has, store.delete, store.read):
                with raises(ConfigError):
                    await call(key)
            with raises(ConfigError):
                await store.put(key, b"")
            with raises(ConfigError):
                await store.replace(key, b"", None)

    async def check_list(self, store: BlobStore) -> None:
        """Listings by how keys begin, with sizes and the store's time."""
        keys = [
            f"{kind}/{n % 3}/{n}" for kind in ("packs", "packsother", "index") for n in range(9)
        ]
        before = time.time()
        await asyncio.gather(*(store.put(key, b"x" * n) for n, key in enumerate(keys)))
        sizes = {key: n for n, key in enumerate(keys)}
        assert await listed(store) == sizes
        for prefix in (
            "packs/",
            "packs",
            "packs/1/",
            "packs/1",
            "index/0/3",
            "inde",
            "none/",
            "none",
        ):
            assert await listed(store, prefix) == {
                key: size for key, size in sizes.items() if key.startswith(prefix)
            }, prefix
        for blob in await blobs_of(store):
            assert blob.modified is None or abs(blob.modified - before) < 3600
        for bad in ("A", "a//b", "../", "/"):
            with raises(ConfigError):
                await listed(store, bad)

    async def check_many(self, store: BlobStore) -> None:
        """More blobs than fit on one page of a listing."""
        gate = asyncio.Semaphore(16)

        async def put(number: int) -> None:
            async with gate:
                await store.put(f"packs/{number % 7}/{number}", b"%d" % number)

        await asyncio.gather(*(put(number) for number in range(250)))
        assert len(await blobs_of(store, "packs/")) == 250

    async def check_two_openings(self, one: BlobStore, two: BlobStore) -> None:
        """What one program does, another one sees at once."""
        await one.put("packs/a", b"from one")
        assert await two.get("packs/a") == b"from one"
        assert await two.get("packs/a", start=5) == b"one"
        await two.put("packs/a", b"from two, longer")
        assert await one.get("packs/a") == b"from two, longer"
        await one.delete("packs/a")
        assert not await two.has("packs/a")
        with raises(BlobNotFound):
            await two.get("packs/a")

    async def check_whole_at_every_moment(self, one: BlobStore, two: BlobStore) -> None:
        """Who reads while another puts finds the old content or the new one."""
        contents = {bytes([65 + n]) * (40_000 + n) for n in range(6)}
        await one.put("packs/a", min(contents))
        done = asyncio.Event()

        async def write() -> None:
            for content in sorted(contents):
                await one.put("packs/a", content)
            done.set()

        async def read() -> None:
            while not done.is_set():
                assert await two.get("packs/a") in contents

        await asyncio.gather(write(), read(), read())
        assert await two.get("packs/a") == max(contents)

    # Section: what is replaced

    async def check_replace(self, store: BlobStore) -> None:
        """Versions follow one another; what was expected wrongly changes nothing."""
        first = await store.replace("heads/x", b"one", None)
        assert await store.read("heads/x") == (b"one", first)
        with raises(BlobChanged):
            await store.replace("heads/x", b"other", None)
        second = await store.replace("heads/x", b"two", first)
        assert second != first
        with raises(BlobChanged):
            await store.replace("heads/x", b"three", first)
        with raises(BlobChanged):
            await store.replace("heads/y", b"three", first)
        assert await store.read("heads/x") == (b"two", second)
        assert not await store.has("heads/y")

    async def check_replaced_is_a_blob(self, store: BlobStore) -> None:
        """What was replaced can be read, listed and deleted like every blob, and made anew."""
        version = await store.replace("heads/x", b"one, and more", None)
        assert await store.get("heads/x") == b"one, and more"
        assert await store.get("heads/x", start=5, length=3) == b"and"
        assert await store.has("heads/x")
        assert await listed(store, "heads/") == {"heads/x": 13}
        await store.delete("heads/x")
        assert not await store.has("heads/x")
        assert await listed(store) == {}
        with raises(BlobNotFound):
            await store.read("heads/x")
        with raises(BlobChanged):
            await store.replace("heads/x", b"two", version)
        again = await store.replace("heads/x", b"three", None)
        assert again != version
        assert await store.read("heads/x") == (b"three", again)

    async def check_replace_same_content(self, store: BlobStore) -> None:
        """A content that comes back is a change like every other."""
        first = await store.replace("heads/x", b"a", None)
        second = await store.replace("heads/x", b"b", first)
        third = await store.replace("heads/x", b"a", second)
        assert await store.read("heads/x") == (b"a", third)
        with raises(BlobChanged):
            await store.replace("heads/x", b"c", second)

    async def check_replace_often(self, store: BlobStore) -> None:
        """Many versions, one after the other, and the first are long forgotten."""
        version = first = await store.replace("heads/x", b"0", None)
        for number in range(1, 25):
            version = await store.replace("heads/x", b"%d" % number, version)
        assert await store.read("heads/x") == (b"24", version)
        with raises(BlobChanged):
            await store.replace("heads/x", b"late", first)
        assert await listed(store) == {"heads/x": 2}

    async def check_one_writer_wins(self, one: BlobStore, two: BlobStore) -> None:
        """Of all who replace one version at the same time one succeeds, and its content is there."""
        for expected in (None, "last"):
            version = (await one.read("heads/x"))[1] if expected else None

            # The version may be a digest, so what is put is never what was there.
            def said(number: int, stage: str | None = expected) -> bytes:
                return b"writer %d, %s" % (number, str(stage).encode())

            async def replace(number: int, version: str | None = version) -> str | None:
                store = (one, two)[number % 2]
                try:
                    return await store.replace("heads/x", said(number), version)
                except BlobChanged:
                    return None

            results = await asyncio.gather(*(replace(number) for number in range(WRITERS)))
            won = [(number, version) for number, version in enumerate(results) if version]
            assert len(won) == 1, results
            assert await two.read("heads/x") == (said(won[0][0]), won[0][1])

    async def check_no_update_is_lost(self, one: BlobStore, two: BlobStore) -> None:
        """Writers that read, change and replace, and try again when told, count without a loss."""
        await one.replace("heads/count", b"0 nobody", None)

        async def count(store: BlobStore, who: int) -> None:
            for _ in range(4):
                while True:
                    data, version = await store.read("heads/count")
                    number = int(data.split()[0]) + 1
                    try:
                        await store.replace("heads/count", b"%d %d" % (number, who), version)
                        break
                    except BlobChanged:
                        continue

        await asyncio.gather(*(count(store, who) for who, store in enumerate((one, two, one))))
        assert (await two.read("heads/count"))[0].startswith(b"12 ")


async def blobs_of(store: BlobStore, prefix: str = "") -> list[Blob]:
    return [blob async for blob in store.list(prefix)]


async def listed(store: BlobStore, prefix: str = "") -> dict[str, int]:
    """Keys and sizes of what a store lists, each once."""
    blobs = await blobs_of(store, prefix)
    found = {blob.key: blob.size for blob in blobs}
    assert len(found) == len(blobs), "listed twice"
    return found


@contextmanager
def raises(*kinds: type[Exception]) -> Iterator[None]:
    """Assert that an error is raised, and that it is of all these kinds."""
    try:
        yield
    except Exception as error:
        if not all(isinstance(error, kind) for kind in kinds):
            raise
        return
    raise AssertionError(f"no {kinds[0].__name__}")


def _test(name: str, about: str | None) -> Callable[[Any], None]:
    def test(self: Any) -> None:
        asyncio.run(self._run(name))

    test.__doc__ = about
    return test
