"""Whether a mounted file system behaves like one: the program of `posixcheck`, run in a sandbox.

    await install(sandbox)
    verdicts = await check(sandbox, "/data")
    assert unexplained(verdicts, differences) == []

Also the exercisers (random operations against a model) and the torture (processes of several
sandboxes that append to one file and count under locks).
"""

from __future__ import annotations

import fnmatch
import hashlib
import json
import os
import secrets
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sandlot import HostFs, MemFs, OverlayFs, Sandbox
from sandlot.settings import Settings
from tests.framework.programs import alone

SOURCE = Path(__file__).with_name("posixcheck")
PROGRAM = "/posix"


@dataclass(frozen=True)
class Verdict:
    """What came out of a check; `why` is empty when it passed."""

    name: str
    why: str
    took_us: int


@dataclass(frozen=True)
class Difference:
    """Checks that a file system fails, and rightly so.

    `names` is a pattern of their names, `why` of what they say; `because` justifies it. All that
    match `names` must fail so: a difference that is gone is to be taken out of the table.
    """

    names: str
    why: str
    because: str


@dataclass(frozen=True)
class FileSystem:
    """One to look at: where it is in the sandbox, how it comes there, and how it differs.

    `create` are further arguments of `Sandbox.create`; `volume` makes what is mounted at the first
    folder of the path, from an empty folder of the host; `mount` is a command that is run first.
    """

    name: str
    path: str
    create: Mapping[str, Any] = field(default_factory=dict)
    volume: Callable[[Path], Any] | None = None
    mount: Sequence[str] = ()
    differences: tuple[Difference, ...] = ()

    def arguments(self, folder: Path) -> dict[str, Any]:
        """Those of `Sandbox.create`."""
        if self.volume is None:
            return dict(self.create)
        return {**self.create, "volumes": {"/" + self.path.split("/")[1]: self.volume(folder)}}

    async def prepare(self, sandbox: Sandbox) -> None:
        """Put the program into a sandbox and mount."""
        await install(sandbox)
        if self.mount:
            await sandbox.exec(self.mount, check=True)
        await sandbox.exec(["mkdir", "-p", self.path], check=True)


# Linux 6.1's overlay cannot make files without a name; "for reading" and "may not be written" are
# refused before it is asked.
_NO_TMPFILE = Difference(
    "tmpfile/[hgE]*", "*EOPNOTSUPP", "the guest's overlay has no O_TMPFILE (Linux 6.1)"
)
_VOLUMES_WITHOUT = Difference("tmpfile/[hgE]*", "*EOPNOTSUPP", "FUSE has O_TMPFILE since Linux 6.2")


# With `cache="fast"` the guest's kernel has data that it has not written yet, and does not write it
# before it asks where the holes are (Linux 6.1): so it is told that there are none.
_HOLES_UNKNOWN = tuple(
    Difference(f"seek/{name}", "*data*: [[]*", "the guest's kernel keeps data back")
    for name in ("DATA-and-HOLE-of-a-sparse-file", "DATA-in-a-punched-hole")
)


def _overlay(folder: Path) -> OverlayFs:
    for name in ("lower", "upper"):
        (folder / name).mkdir()
    return OverlayFs(HostFs(folder / "lower"), HostFs(folder / "upper"))


VOLUMES = (
    FileSystem("host", "/host/x", volume=HostFs, differences=(_VOLUMES_WITHOUT,)),
    FileSystem(
        "memory", "/memory/x", volume=lambda _: MemFs(),
        differences=(_VOLUMES_WITHOUT, *_HOLES_UNKNOWN),
    ),
    FileSystem("overlay", "/overlay/x", volume=_overlay, differences=(_VOLUMES_WITHOUT,)),
    FileSystem(
        "named", "/named/x", volume=lambda _: f"posix-{secrets.token_hex(6)}",
        differences=(_VOLUMES_WITHOUT,),
    ),
)  # fmt: skip
FILE_SYSTEMS = (
    # What every sandbox has: ext4, which programs see through an overlay on their image.
    FileSystem("disk", "/root/x", differences=(_NO_TMPFILE,)),
    # The same ext4 without the overlay.
    FileSystem("ext4", "/ext4/x", mount=[PROGRAM, "bare", "/ext4"]),
)


class Misbehaved(AssertionError):
    """An exerciser or a torture found something wrong; the message is what it printed."""


def program() -> bytes:
    """The static program, built once for all runs."""
    sources = sorted([*SOURCE.glob("*.go"), SOURCE / "go.mod"])
    key = hashlib.sha256(b"\0".join(each.read_bytes() for each in sources)).hexdigest()[:16]
    target = Settings.read().data / "programs" / f"posix-{key}"
    with alone(target):
        if not target.exists():
            part = target.with_suffix(".part")
            go = Path(sys.executable).with_name("go")
            subprocess.run(
                [go, "build", "-trimpath", "-ldflags=-s -w", "-o", part, "."],
                cwd=SOURCE, check=True,
                env={**os.environ, "CGO_ENABLED": "0", "GOTOOLCHAIN": "local", "GOFLAGS": ""},
            )  # fmt: skip
            part.rename(target)
    return target.read_bytes()


async def install(sandbox: Sandbox) -> None:
    """Put the program where every user may run it."""
    await sandbox.files.write(PROGRAM, program(), mode=0o755)


async def check(sandbox: Sandbox, path: str, *, only: str = "") -> list[Verdict]:
    """Run the checks whose name matches the expression `only` on a folder, as root."""
    result = await sandbox.exec([PROGRAM, "check", path, "-run", only])
    if result.exit_code:
        raise Misbehaved(_said(result.stdout, result.stderr))
    lines = map(json.loads, result.text.splitlines())
    return [Verdict(each["name"], each["why"], each["took_us"]) for each in lines]


def unexplained(verdicts: Sequence[Verdict], differences: Sequence[Difference]) -> list[str]:
    """The checks that failed for no stated reason, and the stated ones that did not fail so."""
    wrong = []
    used = set()
    for each in verdicts:
        stated = [d for d in differences if fnmatch.fnmatchcase(each.name, d.names)]
        used.update(stated)
        if stated and not each.why:
            wrong.append(f"{each.name} passes: it is no difference")
        elif each.why and not any(fnmatch.fnmatchcase(each.why, d.why) for d in stated):
            wrong.append(f"{each.name}: {each.why}")
    wrong += [f"no check is called {d.names}" for d in differences if d not in used]
    return wrong


async def exercise(
    sandbox: Sandbox, path: str, *, seed: int, operations: int, size: int = 256 << 10,
    spoil: int = 0, brisk: bool = False,
) -> dict[str, Any]:  # fmt: skip
    """Random operations on a file of at most `size` bytes; with `spoil`, a fault is put in. Most of
    the brisk ones are the guest's own (reads, mappings), and only what each touched is compared.

    Raises:
        Misbehaved: the file was not as its model; the message has the last operations.
    """
    return await _run(
        sandbox, "exercise", path, seed=seed, operations=operations, size=size, spoil=spoil,
        brisk=brisk,
    )  # fmt: skip


async def exercise_names(
    sandbox: Sandbox, path: str, *, seed: int, operations: int, spoil: int = 0
) -> dict[str, Any]:
    """Random operations on names in a folder; otherwise as `exercise`."""
    return await _run(sandbox, "tree", path, seed=seed, operations=operations, spoil=spoil)


async def torture(
    sandbox: Sandbox, path: str, *, name: str, processes: int = 4, records: int = 100
) -> None:
    """Processes that append records to one file and count under locks in others.

    It may run in several sandboxes on one folder at once, in each with another `name`.
    """
    await _run(sandbox, "torture", path, name=name, processes=processes, records=records)


async def judge(
    sandbox: Sandbox, path: str, *, names: Sequence[str], processes: int = 4, records: int = 100
) -> None:
    """Whether all that the tortures of these names wrote is there, whole and once."""
    await _run(sandbox, "judge", path, names=",".join(names), processes=processes, records=records)


async def _run(sandbox: Sandbox, verb: str, path: str, **options: object) -> dict[str, Any]:
    flags = [
        f"-{name}={str(value).lower() if isinstance(value, bool) else value}"
        for name, value in options.items()
    ]
    result = await sandbox.exec([PROGRAM, verb, path, *flags])
    if result.exit_code:
        raise Misbehaved(_said(result.stdout, result.stderr))
    summary: dict[str, Any] = json.loads(result.text or "{}")
    return summary


def _said(stdout: bytes, stderr: bytes) -> str:
    return (stdout[-8000:] + stderr[-8000:]).decode(errors="replace")
