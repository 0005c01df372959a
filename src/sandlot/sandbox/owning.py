"""Who owns the files of a host folder in a sandbox: the user that its programs run as."""

from __future__ import annotations

import contextlib

from sandlot.errors import FileError
from sandlot.files.files import Files
from sandlot.guest.session import GuestSession

MOST_ACCOUNTS = 1 << 20  # bytes of /etc/passwd and /etc/group that are looked at
MOST_ID = (1 << 32) - 2


def ids(user: str, passwd: str, groups: str) -> tuple[int, int]:
    """The numbers of `name|uid[:group|gid]`, with the accounts of the image; root's when there is
    no such user, which is told when a program is started.

    >>> ids("app", "app:x:1000:50::/:/bin/sh", "")
    (1000, 50)
    """
    name, _, group = user.partition(":")
    uid, gid = 0, 0
    if _is_number(name):
        uid = _bounded(name)
    for account in _rows(passwd, 4):
        if name in (account[0], account[2]):
            uid, gid = _number(account[2]), _number(account[3])
            break
    if _is_number(group):
        gid = _bounded(group)
    elif group:
        gid = next((_number(each[2]) for each in _rows(groups, 3) if each[0] == group), gid)
    return uid, gid


def _rows(text: str, fields: int) -> list[list[str]]:
    rows = (line.split(":") for line in text.splitlines())
    return [row for row in rows if len(row) >= fields]


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit()


def _bounded(text: str) -> int:
    return min(int(text), MOST_ID) if len(text) < 12 else MOST_ID


def _number(text: str) -> int:
    return _bounded(text) if _is_number(text) and len(text) < 12 else 0


async def owner_of_files(session: GuestSession, user: str) -> tuple[int, int]:
    """The user and group that the sandbox's programs run as."""
    if user in ("", "0", "root"):
        return 0, 0

    async def itself() -> GuestSession:
        return session

    files, texts = Files(itself), ["", ""]
    for number, path in enumerate(("/etc/passwd", "/etc/group")):
        with contextlib.suppress(FileError):
            texts[number] = await files.read_text(
                path, errors="replace", max_size=MOST_ACCOUNTS, user="0"
            )
    return ids(user, *texts)
