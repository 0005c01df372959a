"""A store from its address. What a kind of store needs is imported only for it."""

from __future__ import annotations

from pathlib import Path

from sandlot.remote.address import Address, parse_address
from sandlot.remote.patience import PatientStore
from sandlot.remote.store import BlobStore


def open_store(address: str | Address) -> BlobStore:
    """The store at an address, not entered yet, which tries again what may pass by itself.

    Raises:
        ConfigError: the address is malformed, or an extra is not installed.

    Example:
        >>> async with open_store("s3://bucket/sandboxes") as store:
        ...     await store.put("packs/one", b"...")
    """
    return PatientStore(open_plainly(address))


def open_plainly(address: str | Address) -> BlobStore:
    """As `open_store`, but each call is one try."""
    where = parse_address(address) if isinstance(address, str) else address
    match where.kind:
        case "folder":
            from sandlot.remote.folder import FolderStore

            return FolderStore(Path(where.path).expanduser())
        case "s3":
            from sandlot.remote.s3 import S3Store

            return S3Store(where.host, where.path, endpoint=where.endpoint)
        case "oci":
            from sandlot.remote.oci import OciStore

            return OciStore(where.host, where.path)
        case "ssh":
            from sandlot.remote.sftp import SftpStore

            return SftpStore(where.host, where.path, user=where.user, port=where.port)
