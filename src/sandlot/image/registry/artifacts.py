"""Artifacts of one repository: what is tagged, and what the tags name. No mirrors: they do not take
what is pushed, and lag behind.

Source: the OCI distribution specification 1.1, "Push", "Content Discovery" and "Content Management".
"""

from __future__ import annotations

import json
import re
import urllib.parse
from collections.abc import Callable

from sandlot.errors import ConnectionFailed, ImageError, ImageNotFound, RegistryError
from sandlot.image.manifest import MAX_MANIFEST, OCI_MANIFEST
from sandlot.image.registry.client import Place, RepositoryClient
from sandlot.image.registry.headers import content_range, next_link
from sandlot.image.registry.refusals import refused
from sandlot.image.registry.words import complaint

MAX_PAGE = 16 << 20
MAX_PAGES = 10_000
_TAG = re.compile("[a-zA-Z0-9_][a-zA-Z0-9_.-]{0,127}")
_CONFUSED = ("blob unknown", "digest did not match")


class ArtifactClient(RepositoryClient):
    """As `RepositoryClient`, for pushing too. Each call is one try.

    client = ArtifactClient(transport, registries, keychain, "registry.example.com", "team/app")
    await client.push_manifest("one", manifest)
    """

    async def find_manifest(self, tag: str) -> bytes | None:
        """The manifest of a tag, None when there is none."""
        place = self._places[-1]
        try:
            answer = await self._ask(place, "GET", f"manifests/{tag}", {"Accept": OCI_MANIFEST})
        except ImageNotFound:
            return None
        return await answer.read(MAX_MANIFEST)

    async def push_manifest(self, tag: str, manifest: bytes) -> None:
        """Give a manifest a tag; what it names must have been pushed."""
        place = self._places[-1]
        try:
            answer = await self._ask(
                place, "PUT", f"manifests/{tag}", {"Content-Type": OCI_MANIFEST}, manifest
            )
        except RegistryError as error:
            words = error.message.lower().replace("_", " ")
            if not any(each in words for each in _CONFUSED):
                raise
            # It, or what it names, was pushed by two at once, which confuses some for a moment.
            raise ConnectionFailed(
                error.message, hint="try again", registry=self.registry, status=error.status
            ) from error
        await answer.skip()

    async def remove_manifest(self, digest: str) -> None:
        """Remove a manifest and all tags of it. Raises RegistryError with 405 where none can be."""
        try:
            answer = await self._ask(self._places[-1], "DELETE", f"manifests/{digest}", {})
        except ImageNotFound:
            return
        await answer.skip()

    async def has_blob(self, digest: str) -> bool:
        """Whether the repository has a blob."""
        try:
            answer = await self._ask(self._places[-1], "HEAD", f"blobs/{digest}", {})
        except RegistryError as error:
            if error.status == 404:
                return False
            raise
        await answer.skip()
        return True

    async def push_blob(self, data: bytes, digest: str) -> str:
        """Have a blob there, in one request after that which asks where. The registry's date."""
        place = self._places[-1]
        answer = await self._ask(place, "POST", "blobs/uploads/", {}, b"")
        location = answer.header("Location")
        await answer.skip()
        if not location:
            raise RegistryError(
                f"{place.endpoint.host} does not say where to push to", registry=self.registry
            )
        parts = urllib.parse.urlsplit(location)
        word = urllib.parse.urlencode({"digest": digest})
        query = f"{parts.query}&{word}" if parts.query else word
        try:
            answer = await self._ask(
                place, "PUT", parts._replace(query=query).geturl(),
                {"Content-Type": "application/octet-stream"}, data,
            )  # fmt: skip
        except RegistryError as error:
            if error.status != 400:
                raise
            # It came damaged; or the same blob is pushed twice at once, which confuses some.
            raise ConnectionFailed(
                error.message, hint="try again", registry=self.registry, status=400
            ) from error
        date = answer.header("Date")
        await answer.skip()
        return date

    async def pour_blob(
        self, digest: str, start: int, length: int, keep: Callable[[bytes], object]
    ) -> None:
        """Give a part of a blob, which must lie within it, to `keep`, which runs in a thread."""
        place = self._places[-1]
        headers = {"Range": f"bytes={start}-{start + length - 1}"}
        answer = await self._ask(place, "GET", f"blobs/{digest}", headers)
        skip, left = start, length
        if answer.status == 206:
            span = content_range(answer.header("Content-Range"))
            if span is None or span[0] != start:
                answer.close()
                raise ConnectionFailed(
                    f"{place.endpoint.host} sent another part than was asked for",
                    registry=self.registry,
                )
            skip = 0

        def take(data: bytes) -> None:
            nonlocal skip, left
            wanted = data[skip : skip + left]
            skip -= min(skip, len(data))
            left -= len(wanted)
            if wanted:
                keep(wanted)

        await answer.pour(take)
        if left:
            raise ConnectionFailed(
                f"{place.endpoint.host} broke off a blob {left} bytes early", registry=self.registry
            )

    async def all_tags(self) -> list[str]:
        """Every tag of the repository; empty when there is no repository."""
        place = self._places[-1]
        found: list[str] = []
        path: str | None = "tags/list?n=1000"
        for _ in range(MAX_PAGES):
            if path is None:
                return found
            try:
                answer = await self._ask(place, "GET", path, {})
            except RegistryError as error:
                if error.status == 404:
                    return []
                raise
            except ImageNotFound:
                return []
            link = next_link(answer.header("Link"))
            try:
                tags = json.loads(await answer.read(MAX_PAGE))["tags"] or []
                found += [tag for tag in tags if _TAG.fullmatch(tag)]
            except (ValueError, KeyError, TypeError, RecursionError) as error:
                raise RegistryError(
                    f"{place.endpoint.host} does not list tags as registries do",
                    registry=self.registry,
                ) from error
            query = urllib.parse.urlsplit(link).query if link else ""
            path = f"tags/list?{query}" if query else None
        raise RegistryError(
            f"{place.endpoint.host} lists tags without an end", registry=self.registry
        )

    def _refused(self, place: Place, status: int, body: bytes) -> RegistryError:
        found = place.login.credentials
        return refused(place.endpoint.registry, self.repository, found, status, body, "push to")

    async def _missing(self, place: Place, method: str, path: str, body: bytes) -> ImageError:
        name = f"{self.registry}/{self.repository}"
        if method in ("GET", "DELETE") and not path.startswith("blobs/"):
            return ImageNotFound(f"there is no {path} in {name}")
        return RegistryError(
            f"{place.endpoint.host} answered with 404 for {name}{complaint(body)}",
            registry=self.registry, status=404,
            hint="make the repository first" if b"NAME_UNKNOWN" in body else "",
        )  # fmt: skip
