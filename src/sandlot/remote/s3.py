"""A store in a bucket of S3, or of what speaks its protocol, by `obstore`.

What is put conditionally rests on `If-Match` and `If-None-Match` of PUT, which AWS, Cloudflare R2,
MinIO, Ceph and others have. The version of a blob is its ETag.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sandlot.errors import (
    BlobChanged,
    BlobNotFound,
    ConfigError,
    RemoteError,
    RemoteFull,
    RemoteRefused,
    RemoteUnreachable,
)
from sandlot.remote.aws import find_aws_settings, missing_extra
from sandlot.remote.store import Blob, BlobStore, check_blob, check_key, check_span, split_prefix

if TYPE_CHECKING:
    import obstore.store

CHUNK = 1 << 20
CONNECT_SECONDS = 15
IDLE_SECONDS = 60
"""Without a byte, after which a transfer counts as cut."""
WHOLE_SECONDS = 3600
"""For one blob, however slow."""
_STATUS = re.compile(r"status(?: code)?: (\d{3})")
_CODE = re.compile(r"<Code>(\w{1,100})</Code>")
_FULL = {"QuotaExceeded", "StorageFull", "XMinioStorageFull", "InsufficientStorage"}
_BUSY = {"SlowDown", "RequestTimeout", "ServiceUnavailable", "InternalError", "OperationAborted"}


class S3Store(BlobStore):
    """Blobs as objects of a bucket, below a prefix.

    Args:
        bucket: its name; it must be there.
        prefix: what comes before the keys, without slashes around it.
        endpoint: the server, such as `https://minio.example.com:9000`; without one what
            AWS_ENDPOINT_URL_S3, AWS_ENDPOINT_URL or the profile says, and else AWS itself.

    Raises:
        ConfigError: the extra `s3` is not installed, or the endpoint is no address.
    """

    def __init__(self, bucket: str, prefix: str = "", *, endpoint: str = "") -> None:
        try:
            import obstore.store  # noqa: F401, whether it is there
        except ImportError as error:
            raise missing_extra() from error
        if endpoint and not re.fullmatch(r"https?://[^/?#\s@]+/?", endpoint):
            raise ConfigError(
                f"{endpoint!r} is not the endpoint of a store", hint="use https://host:port"
            )
        self.address = f"s3://{bucket}/{prefix}".rstrip("/")
        self._bucket = bucket
        self._prefix = prefix
        self._endpoint = endpoint
        self._store: obstore.store.S3Store | None = None
        self._lock = asyncio.Lock()
        self._bare = False

    async def get(self, key: str, *, start: int = 0, length: int | None = None) -> bytes:
        check_span(key, start, length)
        return await self._get(key, start, length, "")

    async def go_on(self, key: str, pin: str, *, start: int, length: int | None) -> bytes:
        return await self._get(key, start, length, pin)

    async def _get(self, key: str, start: int, length: int | None, pin: str) -> bytes:
        import obstore

        store = await self._opened()
        if length == 0:
            await self._head(key)
            return b""
        options: Any = {}
        if length is not None:
            options["range"] = (start, start + length)
        elif start:
            options["range"] = {"offset": start}
        tag, got = "", bytearray()
        try:
            result = await obstore.get_async(store, key, options=options)
            tag = result.meta["e_tag"] or ""
            if pin and tag != pin:
                raise self._changed(key)
            async for chunk in result.stream(min_chunk_size=CHUNK):
                got += chunk
        except Exception as error:
            if _status(error) == 416 and (await self._head(key))[0] <= start:
                return b""
            failure = self._failure(error, f"read {key}", key)
            if isinstance(failure, RemoteUnreachable):
                failure.received, failure.pin = bytes(got), tag
            raise failure from error
        return bytes(got)

    async def put(self, key: str, data: bytes) -> None:
        import obstore

        check_blob(key, data)
        store = await self._opened()
        try:
            await obstore.put_async(store, key, data, use_multipart=False)
        except Exception as error:
            raise self._failure(error, f"keep {key}", key) from error

    async def has(self, key: str) -> bool:
        check_key(key)
        try:
            await self._head(key)
        except BlobNotFound:
            return False
        return True

    async def list(self, prefix: str = "") -> AsyncIterator[Blob]:
        import obstore

        folder = split_prefix(prefix)
        store = await self._opened()
        try:
            async for page in obstore.list(store, prefix=folder.rstrip("/") or None):
                for meta in page:
                    key = meta["path"]
                    if key.startswith(prefix) and _is_key(key):
                        yield Blob(key, meta["size"], meta["last_modified"].timestamp())
        except GeneratorExit:
            raise
        except Exception as error:
            raise self._failure(error, f"list {prefix or 'what is there'}", prefix) from error

    async def delete(self, key: str) -> None:
        import obstore

        check_key(key)
        store = await self._opened()
        try:
            await obstore.delete_async(store, key)
        except Exception as error:
            failure = self._failure(error, f"remove {key}", key)
            if not isinstance(failure, BlobNotFound):
                raise failure from error

    async def read(self, key: str) -> tuple[bytes, str]:
        import obstore

        check_key(key)
        store = await self._opened()
        try:
            result = await obstore.get_async(store, key)
            data, tag = bytes(await result.bytes_async()), result.meta["e_tag"]
        except Exception as error:
            raise self._failure(error, f"read {key}", key) from error
        return data, self._tag(tag)

    async def replace(self, key: str, data: bytes, expected: str | None) -> str:
        check_blob(key, data)
        store = await self._opened()
        if expected is None:
            return await self._replace(store, key, data, "create")
        try:
            return await self._replace(
                store, key, data, {"e_tag": expected.strip('"') if self._bare else expected}
            )
        except BlobChanged:
            if self._bare:
                raise
            try:
                there = (await self._head(key))[1]
            except BlobNotFound:
                there = ""
            if there != expected:
                raise
            # Some compare with the quotes, which belong to the header (Ceph before 18).
            version = await self._replace(store, key, data, {"e_tag": expected.strip('"')})
            self._bare = True
            return version

    async def _replace(
        self, store: obstore.store.S3Store, key: str, data: bytes, mode: Any
    ) -> str:  # fmt: skip
        import obstore

        try:
            result = await obstore.put_async(store, key, data, mode=mode, use_multipart=False)
        except Exception as error:
            failure = self._failure(error, f"replace {key}", key)
            if mode != "create" and isinstance(failure, BlobNotFound):
                failure = self._changed(key)
            raise failure from error
        return self._tag(result["e_tag"])

    async def close(self) -> None:
        self._store = None

    async def _head(self, key: str) -> tuple[int, str]:
        """Size and version."""
        import obstore

        store = await self._opened()
        try:
            meta = await obstore.head_async(store, key)
        except Exception as error:
            raise self._failure(error, f"look for {key}", key) from error
        return meta["size"], meta["e_tag"] or ""

    async def _opened(self) -> obstore.store.S3Store:
        async with self._lock:
            if self._store is None:
                self._store = await asyncio.to_thread(self._open)
            return self._store

    def _open(self) -> obstore.store.S3Store:
        import obstore.store

        found = find_aws_settings(self.address)
        options: Any = {
            "allow_http": True, "connect_timeout": f"{CONNECT_SECONDS}s",
            "read_timeout": f"{IDLE_SECONDS}s", "timeout": f"{WHOLE_SECONDS}s",
        }  # fmt: skip
        if found.authorities:
            options["root_certificate"] = Path(found.authorities).read_bytes()
        more: dict[str, Any] = {}
        endpoint = (
            self._endpoint
            or os.environ.get("AWS_ENDPOINT_URL_S3")
            or os.environ.get("AWS_ENDPOINT_URL")
            or found.endpoint
        )
        if endpoint:
            more["endpoint"] = endpoint.rstrip("/")
        provider: Any = found.provider
        return obstore.store.S3Store(
            self._bucket, prefix=self._prefix or None, region=found.region or "us-east-1",
            credential_provider=provider, client_options=options,
            retry_config={"max_retries": 0}, **more,
        )  # fmt: skip

    # Section: what went wrong

    def _tag(self, tag: str | None) -> str:
        if not tag:
            raise RemoteRefused(
                f"{self.address} gives its objects no ETag", address=self.address,
                hint="this store cannot tell who was first; use another one",
            )  # fmt: skip
        return tag

    def _changed(self, key: str) -> BlobChanged:
        return BlobChanged(
            f"{self.address}: {key} was replaced by somebody else", address=self.address,
            hint="look at what is there now, then try again",
        )  # fmt: skip

    def _failure(self, error: Exception, what: str, key: str) -> RemoteError:
        """An error of the library as one of a remote."""
        if isinstance(error, RemoteError):
            return error
        text = str(error)
        status, code = _status(error), _code(text)
        message = f"{self.address} cannot {what}"
        if code == "NoSuchBucket":
            return self._refused(
                f"{self.address} cannot be used: there is no bucket {self._bucket}",
                f"make it with `aws s3 mb s3://{self._bucket}`, or mend the address",
            )
        if isinstance(error, FileNotFoundError):
            return BlobNotFound(f"{self.address} has no blob {key}", address=self.address)
        if status in (409, 412):
            return self._changed(key)
        if code in _FULL or status == 507:
            return RemoteFull(
                f"{message}: no room is left", address=self.address,
                hint="make room there, or push to another remote",
            )  # fmt: skip
        if code == "RequestTimeTooSkewed":
            return self._refused(f"{message}: the clocks differ", "set the clock of this machine")
        if status in (401, 403):
            return self._refused(
                f"{message}: {code or status}",
                "check the credentials (AWS_PROFILE, AWS_ACCESS_KEY_ID) and what they may do",
            )
        if status in (301, 307) or code == "AuthorizationHeaderMalformed":
            return self._refused(
                f"{message}: the bucket is in another region", "set AWS_REGION to the bucket's"
            )
        if status is not None and status < 500 and status not in (408, 429) and code not in _BUSY:
            return self._refused(f"{message}: {code or status}", "")
        if "PermissionError" in text:
            return self._refused(
                f"{message}: {text.partition('PermissionError: ')[2].splitlines()[0][:300]}",
                "log in again, for example with `aws sso login`",
            )
        if "certificate" in text:
            return self._refused(
                f"{message}: its certificate is not trusted",
                "if it is yours, name its authority with AWS_CA_BUNDLE=FILE",
            )
        return RemoteUnreachable(
            f"{message}: {code or status or _reason(text)}", address=self.address,
            hint="check the address and the network, then try again",
        )  # fmt: skip

    def _refused(self, message: str, hint: str) -> RemoteRefused:
        return RemoteRefused(message, hint=hint, address=self.address)


def _status(error: Exception) -> int | None:
    found = _STATUS.search(str(error))
    return int(found[1]) if found else None


def _code(text: str) -> str:
    found = _CODE.search(text)
    return found[1] if found else ""


def _reason(text: str) -> str:
    """The innermost reason that the library names, in one line."""
    for words in ("Connection refused", "dns error", "timed out", "Connection reset"):
        if words.lower() in text.lower():
            return words.lower()
    return "the connection broke off"


def _is_key(key: str) -> bool:
    try:
        check_key(key)
    except ConfigError:
        return False
    return True
