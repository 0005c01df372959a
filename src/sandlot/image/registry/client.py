"""Manifests and blobs of one repository: from the mirrors of its registry, then from itself.

Source: the OCI distribution specification 1.1, "Pull".
"""

from __future__ import annotations

import asyncio
import json
import random
import re
import time
import urllib.parse
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from sandlot.errors import ConnectionFailed, ImageError, ImageNotFound, RegistryError
from sandlot.image.blobs import BlobBusy, BlobStore, Partial
from sandlot.image.digest import digest_of, is_digest
from sandlot.image.manifest import ACCEPTED_TYPES, MAX_MANIFEST, Descriptor
from sandlot.image.registry.headers import (
    content_range,
    media_type,
    next_link,
    parse_challenges,
    retry_after,
)
from sandlot.image.registry.keychain import Keychain
from sandlot.image.registry.login import Login
from sandlot.image.registry.refusals import limited, missing_tag, refused
from sandlot.image.registry.registries import Endpoint, Registries, is_loopback, split_port
from sandlot.image.registry.transport import Answer, Origin, Transport
from sandlot.image.registry.words import complaint

T = TypeVar("T")

MAX_REDIRECTS = 5
MAX_COMPLAINT = 64 * 1024
MAX_TAGS_PAGE = 1 << 20
MAX_TAGS_PAGES = 5
LONGEST_WAIT = 60.0
"""Seconds: a registry that asks for a longer wait is given up at once."""
PROGRESS = 1 << 20
"""Bytes that a broken transfer must have brought for its next tries to be counted anew."""
_TAG = re.compile("[a-zA-Z0-9_][a-zA-Z0-9_.-]{0,127}")
_REDIRECTS = (301, 302, 303, 307, 308)
_BUSY = (408, 425, 429, 500, 502, 503, 504)


@dataclass(frozen=True)
class Retry:
    """How often to try, and how long to wait before the second time, in seconds; then doubled."""

    attempts: int = 5
    first: float = 0.5

    def delay(self, attempt: int) -> float:
        """Before the attempt after this one, which counts from 0."""
        return min(self.first * 2.0**attempt, 30.0) * random.uniform(0.75, 1.25)


@dataclass(frozen=True)
class Fetched:
    """A manifest as it came. `digest` is that of the bytes."""

    data: bytes
    media_type: str
    digest: str


class Place:
    """One endpoint, as it turned out: its scheme, its login, and whether it is any use."""

    def __init__(self, endpoint: Endpoint, login: Login) -> None:
        self.endpoint = endpoint
        self.login = login
        self.base = ""
        self.lock = asyncio.Lock()
        self.failed = False


class RepositoryClient:
    """One repository of one registry.

    client = RepositoryClient(transport, registries, keychain, "registry.example.com", "team/app")
    manifest = await client.manifest("1.0")
    """

    def __init__(
        self, transport: Transport, registries: Registries, keychain: Keychain, registry: str,
        repository: str, *, retry: Retry | None = None,
    ) -> None:  # fmt: skip
        self.registry = registry
        self.repository = repository
        self._transport = transport
        self._registries = registries
        self._retry = retry or Retry()
        self._places = [
            Place(
                endpoint,
                Login(
                    transport, endpoint, endpoint.repository(repository), keychain,
                    registries.allows_plain,
                ),
            )
            for endpoint in registries.endpoints(registry)
        ]  # fmt: skip

    # Section: what is asked for

    async def head(self, reference: str) -> str | None:
        """The digest of a tag's manifest, when the registry tells it without sending it."""
        for place in self._usable():
            try:
                answer = await self._patiently(
                    partial(self._ask, place, "HEAD", f"manifests/{reference}", {"Accept": _ACCEPT})
                )
            except (RegistryError, ImageNotFound):
                if place.endpoint.mirror:
                    continue
                raise
            await answer.skip()
            digest = answer.header("Docker-Content-Digest")
            return digest if is_digest(digest) else None
        return None

    async def manifest(self, reference: str) -> Fetched:
        """A manifest by tag or digest, at most MAX_MANIFEST bytes, verified.

        Raises:
            ImageNotFound: there is no such tag, or no such repository.
            RegistryError: no place has it, or none answers.
        """

        async def once(place: Place) -> Fetched:
            answer = await self._ask(place, "GET", f"manifests/{reference}", {"Accept": _ACCEPT})
            promised = answer.header("Docker-Content-Digest")
            kind = media_type(answer.header("Content-Type"))
            data = await answer.read(MAX_MANIFEST)
            digest = digest_of(data)
            wanted = reference if is_digest(reference) else promised
            if is_digest(wanted) and digest != wanted:
                raise RegistryError(
                    f"{place.endpoint.host} sent another manifest than {wanted} for"
                    f" {self.repository}: {digest}", registry=self.registry,
                    hint="try again; when that does not help, the registry or a proxy is broken",
                )  # fmt: skip
            return Fetched(data, kind, digest)

        return await self._anywhere(once)

    async def blob(
        self, blobs: BlobStore, layer: Descriptor, moved: Callable[[int], object] = lambda _: None
    ) -> None:
        """Have a blob in the store, whole and verified: go on with what is there of it.

        When another program fetches it, wait for that one. `moved` is called, also from threads,
        with the number of bytes that came; negative when they have to come again.

        Raises:
            ImageError: nobody sent what the digest and the size promise.
            RegistryError: nobody has it, or nobody answers.
            ResourceError: the disk is full.
        """
        last = self._places[-1]
        places = [*self._usable(), last]  # the registry once more, when what it sent is damaged
        for number, place in enumerate(places):
            part = await _begin(blobs, layer)
            if part is None:
                moved(layer.size)
                return
            moved(part.offset)
            try:
                await self._patiently(
                    partial(self._transfer, place, part, moved),
                    partial(getattr, part, "offset"),
                )
                await asyncio.to_thread(part.commit)
                return
            except ImageError as error:
                moved(-part.offset)
                if isinstance(error, ConnectionFailed) and place.endpoint.mirror:
                    place.failed = True
                damaged = not isinstance(error, RegistryError)
                if number == len(places) - 1 or (place is last and not damaged):
                    raise
            finally:
                part.close()

    async def tags(self) -> list[str]:
        """The tags of the repository, as far as the registry lists them."""
        place = self._places[-1]
        found: list[str] = []
        path: str | None = "tags/list?n=1000"
        for _ in range(MAX_TAGS_PAGES):
            if path is None:
                break
            answer = await self._ask(place, "GET", path, {})
            link = next_link(answer.header("Link"))
            try:
                tags = json.loads(await answer.read(MAX_TAGS_PAGE))["tags"] or []
            except (ValueError, KeyError, TypeError, RecursionError):
                break
            if not isinstance(tags, list):
                break
            found += [tag for tag in tags if isinstance(tag, str) and _TAG.fullmatch(tag)]
            query = urllib.parse.urlsplit(link).query if link else ""
            path = f"tags/list?{query}" if query else None
        return found

    # Section: how it is asked for

    def _usable(self) -> list[Place]:
        return [place for place in self._places if not place.failed]

    async def _anywhere(self, once: Callable[[Place], Awaitable[T]]) -> T:
        """The first place's answer that is good; the registry itself is asked last."""
        for place in self._usable():
            try:
                return await self._patiently(partial(once, place))
            except (RegistryError, ImageNotFound) as error:
                if not place.endpoint.mirror:
                    raise
                # A mirror may lack what its registry has; one that is down is asked no more.
                place.failed = isinstance(error, ConnectionFailed)
        raise AssertionError("unreachable")

    async def _patiently(
        self, once: Callable[[], Awaitable[T]], progress: Callable[[], int] = lambda: 0
    ) -> T:
        """Again after what may pass by itself, with growing pauses."""
        attempt = 0
        before = progress()
        while True:
            try:
                return await once()
            except RegistryError as error:
                if progress() - before >= PROGRESS:
                    attempt = 0
                before = progress()
                attempts = self._retry.attempts
                if isinstance(error, ConnectionFailed):
                    attempts = min(attempts, error.attempts)
                elif error.status not in _BUSY:
                    raise
                wait = self._retry.delay(attempt)
                attempt += 1
                if attempt >= attempts:
                    raise
                if error.retry_after is not None:
                    if error.retry_after > LONGEST_WAIT:
                        raise
                    wait = max(wait, error.retry_after)
            await asyncio.sleep(wait)

    async def _transfer(self, place: Place, part: Partial, moved: Callable[[int], object]) -> None:
        """The rest of a blob, by one request."""
        since = part.offset
        if part.size is not None and since == part.size:
            return
        headers = {"Range": f"bytes={since}-"} if since else {}
        answer = await self._ask(place, "GET", f"blobs/{part.digest}", headers)
        if answer.status == 206:
            span = content_range(answer.header("Content-Range"))
            if span is None or span[0] != since or span[2] not in (None, part.size):
                answer.close()
                self._again(part, moved)
                raise ConnectionFailed(
                    f"{place.endpoint.host} sent another part than was asked for",
                    registry=self.registry,
                )
        elif since:
            self._again(part, moved)
        length = answer.header("Content-Length")
        left = None if part.size is None else part.size - part.offset
        if left is not None and length.isdecimal() and int(length) != left:
            answer.close()
            raise RegistryError(
                f"{place.endpoint.host} has another size for blob {part.digest}: {length} bytes"
                f" where {left} were promised", registry=self.registry,
            )  # fmt: skip

        def keep(data: bytes) -> None:
            part.write(data)
            moved(len(data))

        await answer.pour(keep)
        if part.size is not None and part.offset < part.size:
            raise ConnectionFailed(
                f"{place.endpoint.host} broke off after {part.offset} of {part.size} bytes",
                registry=self.registry,
            )

    @staticmethod
    def _again(part: Partial, moved: Callable[[int], object]) -> None:
        moved(-part.offset)
        part.restart()

    async def _ask(
        self, place: Place, method: str, path: str, headers: Mapping[str, str],
        body: bytes | None = None,
    ) -> Answer:  # fmt: skip
        """An answer that is good, logged in as far as needed. Raises what tells why not."""
        base = await self._base(place)
        url = urllib.parse.urljoin(f"{base}/v2/{place.login.repository}/", path)
        home = Origin.of(base)
        shown = place.login.header if Origin.of(url) == home else ""
        try:
            answer = await self._follow(method, url, headers, shown, body)
        except ConnectionFailed as error:
            if error.tls:
                place.base = ""  # it was guessed while the connection was cut
            raise
        if answer.status == 401 and Origin.of(url) == home:
            challenges = parse_challenges(answer.header("WWW-Authenticate"))
            await answer.skip()
            header = await place.login.renew(challenges, shown)
            if not header:
                raise self._refused(place, 401, b"")
            answer = await self._follow(method, url, headers, header, body)
        if answer.status in (200, 201, 202, 204, 206):
            return answer
        if answer.status == 416:
            # What lies here is as long as the blob, or longer: it comes to light when verified.
            await answer.skip()
            raise ConnectionFailed(
                f"{place.endpoint.host} cannot go on with a transfer", registry=self.registry,
                status=416,
            )  # fmt: skip
        try:
            body = await answer.read(MAX_COMPLAINT)
        except RegistryError:
            body = b""
        raise await self._failure(place, method, path, answer, body)

    async def _follow(
        self, method: str, url: str, headers: Mapping[str, str], authorization: str,
        body: bytes | None = None,
    ) -> Answer:  # fmt: skip
        """Send, and follow redirects. Only the first host is shown the authorization."""
        home = Origin.of(url)
        for _ in range(MAX_REDIRECTS + 1):
            origin = Origin.of(url)
            more = {"Authorization": authorization} if authorization and origin == home else {}
            answer = await self._transport.send(method, url, {**headers, **more}, body)
            if answer.status not in _REDIRECTS:
                return answer
            location = answer.header("Location")
            await answer.skip()
            try:
                url = urllib.parse.urljoin(url, location)
                target = Origin.of(url)
            except ValueError as error:
                raise RegistryError(
                    f"{origin.netloc} redirects to nowhere", registry=self.registry
                ) from error
            if target.scheme != "https" and not self._registries.allows_plain(target.netloc):
                raise RegistryError(
                    f"{origin.netloc} redirects to {target.netloc} without encryption, which is refused",
                    registry=self.registry,
                    hint=f"if you trust it, set SANDLOT_INSECURE_REGISTRIES={target.netloc}",
                )
        raise RegistryError(
            f"{home.netloc} redirects more than {MAX_REDIRECTS} times", registry=self.registry
        )

    async def _base(self, place: Place) -> str:
        """The scheme and host of a place. Where plain HTTP is allowed, both are tried."""
        async with place.lock:
            if not place.base:
                place.base = await self._find_base(place.endpoint)
            return place.base

    async def _find_base(self, endpoint: Endpoint) -> str:
        secure, plain = f"https://{endpoint.host}", f"http://{endpoint.host}"
        if not endpoint.plain:
            return secure
        if not endpoint.secure:
            return plain
        if is_loopback(endpoint.host):
            # No servers of TLS wait for more of what is no greeting of theirs, as others would.
            try:
                answer = await self._transport.send("GET", f"{plain}/v2/", {})
            except ConnectionFailed as error:
                if error.unreachable:
                    raise
                return secure
            await answer.skip()
            return secure if answer.status == 400 else plain
        try:
            answer = await self._transport.send("GET", f"{secure}/v2/", {})
        except ConnectionFailed as error:
            if error.tls or (error.unreachable and split_port(endpoint.host)[1] is None):
                return plain
            raise
        await answer.skip()
        return secure

    # Section: why it was not got

    async def _failure(
        self, place: Place, method: str, path: str, answer: Answer, body: bytes
    ) -> ImageError:
        status, name = answer.status, f"{self.registry}/{self.repository}"
        if status in (401, 403):
            return self._refused(place, status, body)
        if status == 404:
            return await self._missing(place, method, path, body)
        if status == 429:
            return limited(
                place.endpoint.registry, anonymous=place.login.credentials is None,
                limit=answer.header("RateLimit-Limit"), now=time.time(), body=body,
                remaining=answer.header("RateLimit-Remaining"), wait=answer.header("Retry-After"),
            )  # fmt: skip
        wait = retry_after(answer.header("Retry-After"), time.time())
        return RegistryError(
            f"{place.endpoint.host} answered with {status} for {name}{complaint(body)}",
            registry=self.registry, status=status, retry_after=wait,
            hint="try again later" if status >= 500 else "",
        )  # fmt: skip

    def _refused(self, place: Place, status: int, body: bytes) -> RegistryError:
        return refused(
            place.endpoint.registry, self.repository, place.login.credentials, status, body
        )

    async def _missing(self, place: Place, method: str, path: str, body: bytes) -> ImageError:
        kind, _, what = path.partition("/")
        name = f"{self.registry}/{self.repository}"
        if kind == "blobs":
            return RegistryError(
                f"{place.endpoint.host} lacks the blob {what} of {name}", registry=self.registry,
                status=404, hint="push the image again",
            )  # fmt: skip
        if kind != "manifests" or place.endpoint.mirror or method == "HEAD":
            return ImageNotFound(f"there is no {name}")
        if is_digest(what):
            return ImageNotFound(f"there is no image {what} in {name}")
        if b"NAME_UNKNOWN" in body:
            return ImageNotFound(
                f"there is no repository {name}", hint="check the spelling; some need a login"
            )
        try:
            async with asyncio.timeout(5):
                there = await self.tags()
        except (ImageError, TimeoutError):
            there = []
        return missing_tag(name, what, there)


async def _begin(blobs: BlobStore, layer: Descriptor) -> Partial | None:
    """The unfinished blob for this program alone; None when it is whole."""
    delay = 0.02
    while not blobs.exists(layer.digest, layer.size):
        try:
            part = await asyncio.to_thread(blobs.partial, layer.digest, layer.size, wait=False)
        except BlobBusy:
            await asyncio.sleep(delay)  # polled, so that a cancelled waiter leaves no thread behind
            delay = min(delay * 1.5, 0.25)
            continue
        if not blobs.exists(layer.digest, layer.size):
            return part
        part.close()
    return None


_ACCEPT = ", ".join(ACCEPTED_TYPES)
