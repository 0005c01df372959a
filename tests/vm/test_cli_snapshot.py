"""Snapshots, restores and forks from the command line."""

from __future__ import annotations

import json
import os
import pty
import select
import subprocess
from collections.abc import Iterator

import pytest

from tests.vm.test_cli import SANDLOT, sandlot

BOX = f"box-{os.getpid()}"
READY = f"ready-{os.getpid()}"
TAG = f"latest-{os.getpid()}"


def said(*words: str, **options: object) -> str:
    done = sandlot(*words, **options)  # type: ignore[arg-type]
    assert done.returncode == 0, done.stderr
    return done.stdout.decode()


def children(snapshot: str) -> list[str]:
    """The sandboxes that were restored from it; other tests make some of their own meanwhile."""
    (found,) = json.loads(said("snapshot", "inspect", snapshot))
    names: list[str] = found["sandboxes"]
    return names


@pytest.fixture
def box(image: str) -> Iterator[str]:
    """A sandbox that lives by itself and has a file in its memory; all that comes of it goes."""
    said("run", "-d", "--name", BOX, "-m", "512M", "-e", "A=1", image, "sleep", "1000000")
    said("exec", BOX, "sh", "-c", "echo kept > /dev/shm/file; echo disk > /root/file; sync")
    try:
        yield BOX
    finally:
        snapshots = json.loads(said("snapshot", "ls", "--json"))
        for each in snapshots:
            if each["sandbox"] == BOX:
                sandlot("snapshot", "rm", "--cascade", each["id"])
        sandlot("rm", "-f", BOX)


@pytest.fixture
def ready(box: str) -> str:
    """A snapshot of it."""
    done = sandlot("snapshot", "create", "-t", TAG, box, READY)
    assert done.returncode == 0, done.stderr
    assert f"{BOX} is saved as {READY}, its programs stood still for".encode() in done.stderr
    id = done.stdout.decode().strip()
    (found,) = json.loads(said("snapshot", "inspect", TAG))
    assert (found["id"], found["sandbox"], found["kind"]) == (id, BOX, "machine")
    return READY


def test_a_command_in_a_restored_sandbox(ready: str) -> None:
    name = f"w-{os.getpid()}"
    done = sandlot(
        "restore", "--name", name, "-e", "WORKER_ID=7", "--network", "deny", "-w", "/root", ready,
        "--", "sh", "-c", "cat /dev/shm/file; echo $A $WORKER_ID $PWD; hostname; exit 3",
    )  # fmt: skip
    assert done.returncode == 3, done.stderr
    assert done.stdout.decode().split("\n")[:3] == ["kept", "1 7 /root", name]
    # It stays, stopped, with what it said and how it ended, and holds its snapshot.
    (shown,) = json.loads(said("inspect", name))
    assert (shown["status"], shown["state"]["exit_code"]) == ("stopped", 3)
    assert said("logs", name).startswith("kept\n")
    refused = sandlot("snapshot", "rm", ready)
    assert refused.returncode == 125 and f"sandbox {name}".encode() in refused.stderr
    said("rm", name)
    assert said("snapshot", "rm", ready) == f"{ready}\n"


def test_one_that_is_restored_goes_with_rm(ready: str) -> None:
    assert said("restore", "--rm", "-i", TAG, "cat", stdin=b"fed") == "fed"
    # Without a command it is a shell, which takes what there is as its lines.
    assert said("restore", "--rm", ready, stdin=b"cat /dev/shm/file; exit\n") == "kept\n"
    assert sandlot("restore", "--rm", ready, stdin=b"exit 9\n").returncode == 9
    done = sandlot("restore", "--rm", ready, "no-such-program")
    assert done.returncode == 127 and len(done.stderr.splitlines()) <= 2
    done = sandlot("restore", "--rm", "--timeout", "1s", ready, "sleep", "1000")
    assert done.returncode == 124 and b"longer than 1 s" in done.stderr
    assert children(ready) == []
    disk = said(
        "restore", "--rm", "--disk-only", ready, "sh", "-c", "cat /root/file /dev/shm/file||:"
    )
    assert disk == "disk\n"


def test_a_terminal(ready: str) -> None:
    owner, terminal = pty.openpty()
    process = subprocess.Popen(
        [*SANDLOT, "restore", "--rm", ready], stdin=terminal, stdout=terminal,
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    os.close(terminal)
    seen = b""
    try:
        os.write(owner, b'tty; echo re""ady; exit 4\n')
        while b"\nready" not in seen:
            assert select.select([owner], [], [], 120)[0], seen
            seen += os.read(owner, 4096)
        assert b"/dev/pts/" in seen
        assert process.wait(120) == 4
    finally:
        process.kill()
        process.wait()
        os.close(owner)


def test_detached_ones_and_their_jobs(ready: str) -> None:
    name = f"d-{os.getpid()}"
    id = said(
        "restore", "-d", "--rm", "--name", name, "-e", "WORKER_ID=7", "-l", "team=a", ready,
        "sh", "-c", "echo job $WORKER_ID; sleep 1000000",
    ).strip()  # fmt: skip
    (shown,) = json.loads(said("inspect", name))
    assert (shown["id"], shown["status"], shown["labels"]) == (id, "running", {"team": "a"})
    # The command that it was made with goes on, and the new one is a job beside it.
    jobs = json.loads(said("jobs", "--json", name))
    assert sorted(job["command"][0] for job in jobs) == ["sh", "sleep"]
    (saved,) = json.loads(said("exec", name, "cat", "/run/sandlot/restored").join("[]"))
    assert saved["env"] == {"WORKER_ID": "7"} and saved["snapshot"] == ready
    child = said("snapshot", "create", name).strip()
    lines = said("snapshot", "ls", "--tree").splitlines()
    (at,) = (number for number, line in enumerate(lines) if line.startswith(f"{ready} "))
    assert lines[at + 1].startswith("└─ ") and lines[at + 1].endswith(child)
    said("stop", name)  # which removes it
    assert name not in said("ps", "-a")
    assert said("snapshot", "rm", ready, child) == f"{ready}\n{child}\n"


def test_wrong_uses_leave_nothing(ready: str) -> None:
    for words, says in (
        (["-d", "--timeout", "3s", ready], b"--timeout cannot be combined with -d"),
        (["-d", "-w", "/tmp", ready], b"--workdir is for a command"),
        (["-it", ready, "sh"], b"not a terminal"),
        (["nobody", "true"], b"no snapshot is named 'nobody'"),
        (["-d", ready, "no-such-program"], b"no-such-program"),
        (["-e", "A", "--memory", "2G", ready], b"--memory"),
        (["--secret", "KEY@example.com", ready], b"had no secret KEY"),
    ):
        done = sandlot("restore", *words)
        assert done.returncode in (125, 127) and says in done.stderr, (words, done)
        assert done.stdout == b"" and len(done.stderr.splitlines()) <= 2
    assert children(ready) == []


def test_forks_live_by_themselves(box: str) -> None:
    name = f"twin-{os.getpid()}"
    (one,) = said("fork", "--name", name, "-l", "kind=twin", box).split()
    ids = said("fork", "-n", "2", "--name", name, "-e", "SEED=7", "--rm", box).split()
    names = [name, f"{name}-1", f"{name}-2"]
    try:
        shown = json.loads(said("inspect", *names))
        assert [each["id"] for each in shown] == [one, *ids]
        assert all(each["status"] == "running" for each in shown)
        for each in names:
            assert (
                said("exec", each, "sh", "-c", "cat /dev/shm/file; hostname") == f"kept\n{each}\n"
            )
        assert said("exec", names[1], "sh", "-c", "echo $SEED") == "7\n"
        taken = sandlot("fork", "--name", name, box)
        assert taken.returncode == 125 and b"exists already" in taken.stderr
        said("stop", names[1], names[2])
        assert names[1] not in said("ps", "-a") and said("exec", box, "true") == ""
    finally:
        sandlot("rm", "-f", *names)
