"""Jobs: programs that outlive who started them."""

from __future__ import annotations

import asyncio
import os

import pytest

from sandlot import CommandNotFound, Sandbox, WrongState, sync
from sandlot.guest.jobs import JobOutput
from sandlot.sandbox.job import Job
from tests.vm.test_cli import Terminal, sandlot, until

TICKS = "for i in 1 2 3 4 5; do echo out$i; echo err$i >&2; done; read x < /tmp/go; exit 7"


async def gate(sb: Sandbox) -> None:
    await sb.exec("mkfifo /tmp/go", check=True)


async def open_gate(sb: Sandbox) -> None:
    await sb.exec("echo > /tmp/go", check=True, timeout=60)


def text(pieces: list[JobOutput], stream: str) -> bytes:
    return b"".join(p.data for p in pieces if p.stream == stream)


async def kept(job: Job, size: int) -> list[JobOutput]:
    """Its output, once there are so many bytes."""
    async with asyncio.timeout(60):
        while True:
            pieces = await job.logs()
            if sum(len(p.data) for p in pieces) >= size:
                return pieces
            await asyncio.sleep(0.02)


async def test_a_job_is_found_again_and_its_end_is_known(sb: Sandbox) -> None:
    await gate(sb)
    job = await sb.spawn(TICKS, detached=True)
    assert job.status == "running" and job.exit_status is None
    pieces = await kept(job, 50)
    assert text(pieces, "stdout") == b"".join(b"out%d\n" % i for i in range(1, 6))
    assert text(pieces, "stderr") == b"".join(b"err%d\n" % i for i in range(1, 6))
    again = await (await Sandbox.get(sb.name)).job(job.id[:8])  # through the door
    assert again.id == job.id and again.command[-1] == TICKS and again.pid == job.pid
    waiting = asyncio.create_task(again.wait())
    await open_gate(sb)
    assert (await waiting).exit_code == 7
    assert again.status == "exited"
    # Long past its end, it can still be asked.
    (late,) = await sb.jobs()
    assert late.status == "exited" and late.exit_status is not None
    assert late.exit_status.exit_code == 7 and (await late.wait()).exit_code == 7
    assert text(await late.logs(), "stdout").startswith(b"out1\n")
    with pytest.raises(WrongState, match="no job"):
        await sb.job("ffff")


async def test_several_watch_and_each_begins_where_it_likes(sb: Sandbox) -> None:
    await gate(sb)
    job = await sb.spawn("echo one; echo two; read x < /tmp/go; echo three", detached=True)
    await kept(job, 8)
    visitor = await Sandbox.get(sb.name)
    watchers = [
        await job.attach(),
        await (await visitor.job(job.id)).attach(from_offset=4),
        await job.attach(from_offset=None),
        await job.attach(from_offset=10_000),
    ]
    first = await watchers[0].read()
    assert first is not None and first.data.startswith(b"one") and first.dropped == 0
    gone = await job.attach()
    await gone.close()  # one that leaves disturbs nobody
    await open_gate(sb)
    seen = [b"".join([p.data async for p in w]) for w in watchers]
    assert [first.data + seen[0], *seen[1:]] == [
        b"one\ntwo\nthree\n",
        b"two\nthree\n",
        b"three\n",
        b"three\n",
    ]
    assert [(await w.wait()).exit_code for w in watchers] == [0, 0, 0, 0]


async def test_the_input_has_one_owner(sb: Sandbox) -> None:
    job = await sb.spawn(["cat"], stdin=True, detached=True)
    visitor = await (await Sandbox.get(sb.name)).job(job.id)
    first = await job.attach(input=True)
    with pytest.raises(WrongState, match="held by another"):
        await visitor.attach(input=True)
    await first.stdin.write(b"from the first\n")
    await kept(job, 15)
    taken = await visitor.attach(take_input=True)
    await taken.stdin.write(b"from the second\n")
    await kept(job, 31)
    await taken.close()  # lets go of the input without ending it
    third = await job.attach(input=True)
    third.stdin.close()
    assert (await third.wait()).exit_code == 0
    assert text(await job.logs(), "stdout") == b"from the first\nfrom the second\n"
    with pytest.raises(WrongState, match="takes no input"):
        await job.attach(input=True)
    await first.close()
    quiet = await sb.spawn(["sleep", "60"], detached=True)
    with pytest.raises(WrongState, match="without an input"):
        await quiet.attach(input=True)
    await quiet.kill()


async def test_signals_and_their_status(sb: Sandbox) -> None:
    job = await sb.spawn(["sleep", "300"], detached=True)
    await job.signal("TERM")
    status = await job.wait()
    assert (status.signal, status.exit_code) == (15, 143)
    watched = await sb.spawn(
        "trap 'echo caught; exit 3' USR1; echo up; while :; do sleep 0.05; done", detached=True
    )
    async with await watched.attach() as a:
        piece = await a.read()
        assert piece is not None and piece.data == b"up\n"
        await a.signal("USR1")
        assert (await a.wait()).exit_code == 3
    slow = await sb.spawn(["sleep", "300"], detached=True, timeout=0.3)
    assert (await slow.wait()).timed_out
    with pytest.raises(CommandNotFound):
        await sb.spawn(["no-such-program"], detached=True)
    assert len(await sb.jobs()) == 3


async def test_the_beginning_that_was_dropped_is_told(sb: Sandbox) -> None:
    script = "import sys\nfor i in range(300000): sys.stdout.write(f'{i:08d}\\n')"
    job = await sb.spawn(["python3", "-c", script], detached=True)
    assert (await job.wait()).exit_code == 0
    pieces = await job.logs()
    data = text(pieces, "stdout")
    assert pieces[0].dropped == pieces[0].offset == 2_700_000 - len(data)
    assert len(data) == 1 << 20 and data.endswith(b"00299999\n")
    assert pieces[-1].next_offset == 2_700_000
    # Who watches from the start loses nothing.
    job = await sb.spawn(["python3", "-c", script], detached=True)
    async with await job.attach() as a:
        whole = [p async for p in a]
    assert not sum(p.dropped for p in whole)
    assert text(whole, "stdout").split() == [b"%08d" % i for i in range(300_000)]


async def test_a_watcher_that_takes_nothing_does_not_stop_the_job(sb: Sandbox) -> None:
    job = await sb.spawn("head -c 20000000 /dev/zero; echo done >&2", detached=True)
    async with await job.attach() as stuck:
        assert (await job.wait()).exit_code == 0
        pieces = [p async for p in stuck]
    assert sum(p.dropped + len(p.data) for p in pieces) == 20_000_005
    assert any(p.dropped for p in pieces)


async def test_many_ends_are_remembered(sb: Sandbox) -> None:
    jobs = []
    for i in range(270):
        jobs.append(await sb.spawn(["sh", "-c", f"exit {i % 200}"], detached=True))
        await jobs[-1].wait()
    jobs[0] = Job(jobs[0]._reach, jobs[0]._job)  # as if found before its end
    known = await sb.jobs()
    assert len(known) == 256
    assert [j.exit_status.exit_code for j in known if j.exit_status] == [
        i % 200 for i in range(14, 270)
    ]
    with pytest.raises(WrongState, match="no job"):
        await jobs[0].wait()


def test_jobs_without_await(image: str) -> None:
    with sync.Sandbox.create(image=image, memory="512M") as sandbox:
        job = sandbox.spawn("echo said; exit 4", detached=True)
        with job.attach() as attachment:
            assert [p.data for p in attachment] == [b"said\n"]
        assert job.wait().exit_code == 4
        assert [j.id for j in sandbox.jobs()] == [job.id]
        assert sandbox.job(job.id).logs()[0].data == b"said\n"


def test_jobs_from_the_command_line() -> None:
    name = f"jobs-{os.getpid()}"
    try:
        assert sandlot("create", "--name", name, "test").returncode == 0
        assert sandlot("start", name).returncode == 0
        made = sandlot(
            "exec", "-d", name, "sh", "-c", "echo working; sleep 1; echo done >&2; exit 9"
        )
        job = made.stdout.decode().strip()
        assert len(job) == 12, made.stderr
        assert job.encode() in sandlot("jobs", name).stdout
        r = sandlot("attach", name, job)
        assert (r.stdout, r.stderr, r.returncode) == (b"working\n", b"done\n", 9)
        assert sandlot("attach", "--no-follow", "--from-offset", "3", name, job).stdout == b"king\n"
        until(lambda: b"exited (9)" in sandlot("jobs", name).stdout, "the job did not end")
        fed = sandlot("exec", "-d", "-i", name, "cat").stdout.decode().strip()
        r = sandlot("attach", "-i", name, fed, stdin=b"some input")
        assert (r.stdout, r.returncode) == (b"some input", 0), r.stderr
        r = sandlot("attach", name, "nope")
        assert r.returncode == 125 and b"sandlot jobs" in r.stderr
        assert sandlot("jobs", "-q", name).stdout.decode().split() == [job, fed]
    finally:
        sandlot("rm", "-f", name)


@pytest.mark.parametrize("flags", [("-i",), ("-i", "-t")])
def test_two_keys_leave_a_job(flags: tuple[str, ...]) -> None:
    name = f"jobs-{os.getpid()}"
    try:
        assert sandlot("create", "--name", name, "test").returncode == 0
        assert sandlot("start", name).returncode == 0
        cat = ["sh", "-c", "while read line; do echo got-$line; done"]
        job = sandlot("exec", "-d", *flags, name, *cat).stdout.decode().strip()
        watcher = Terminal("attach", "-i", name, job)
        watcher.expect(b"Ctrl-P Ctrl-Q leaves")
        watcher.type(b"one\n" if "-t" not in flags else b"one\r")
        watcher.expect(b"got-one")
        watcher.type(b"\x10")
        watcher.expect(b"^P") if "-t" not in flags else None
        watcher.type(b"\x11")
        assert watcher.wait() == 0
        again = Terminal("attach", "-i", "--new", name, job)  # it runs on, and is free again
        again.expect(b"leaves")
        again.type(b"two\n" if "-t" not in flags else b"two\r")
        again.expect(b"got-two")
        again.type(b"\x10\x11")
        assert again.wait() == 0
    finally:
        sandlot("rm", "-f", name)
