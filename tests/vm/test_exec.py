"""Running programs in a real machine."""

from __future__ import annotations

import asyncio
import signal
import time

import pytest

from sandlot import (
    CommandNotExecutable,
    CommandNotFound,
    ConfigError,
    ExecTimeout,
    ProcessError,
    Sandbox,
    WrongState,
)


async def test_output_status_and_resources(sb: Sandbox) -> None:
    r = await sb.exec(
        ["python3", "-c", "import sys; print('out'); print('err', file=sys.stderr); sys.exit(3)"]
    )
    assert (r.stdout, r.stderr, r.exit_code, r.signal) == (b"out\n", b"err\n", 3, None)
    assert r.text == "out\n"
    assert r.user_time > 0 and r.peak_memory > 1 << 20 and r.duration > 0


async def test_a_string_is_a_shell_line(sb: Sandbox) -> None:
    assert (await sb.exec("echo a b | tr a-z A-Z && false || echo $((6*7))")).text == "A B\n42\n"


async def test_bytes_go_through_untouched(sb: Sandbox) -> None:
    data = bytes(range(256)) * 300
    assert (await sb.exec(["cat"], stdin=data)).stdout == data
    assert (await sb.exec(["printf", "%s", b"\xff\xfe"])).stdout == b"\xff\xfe"


async def test_megabytes_both_ways(sb: Sandbox) -> None:
    data = b"0123456789abcdef" * (1 << 20)
    r = await sb.exec("tee /dev/stderr", stdin=data)
    assert r.stdout == data and r.stderr == data


async def test_its_own_kernel_and_root(sb: Sandbox) -> None:
    import platform

    r = await sb.exec("uname -r; id -u; cat /proc/1/comm; stat -f -c %T /; cat /proc/mounts")
    lines = r.text.splitlines()
    assert lines[0] != platform.release()
    assert lines[1:4] == ["0", "init", "overlayfs"]
    for needed in (" /proc ", " /sys ", " /dev ", " /dev/pts ", " /dev/shm ", " /sys/fs/cgroup "):
        assert needed in r.text, needed
    await sb.exec(
        "test -d /tmp && test -w /tmp && touch /tmp/x /root/x /new && rm /etc/passwd", check=True
    )


async def test_environment_folder_and_user(sb: Sandbox) -> None:
    r = await sb.exec(
        "pwd; echo $A; id -un; id -gn; umask", env={"A": "1 2"}, workdir="/usr", user="nobody"
    )
    assert r.text.split("\n")[:5] == ["/usr", "1 2", "nobody", "nogroup", "0022"]
    assert (await sb.exec("id -u; id -g", user="1234:77")).text == "1234\n77\n"
    home = (await sb.exec("echo $HOME $USER $PATH")).text
    assert home.startswith("/root root /usr/local/sbin:")


@pytest.mark.parametrize(
    ("command", "options", "error"),
    [
        (["no-such-program"], {}, CommandNotFound),
        (["/etc/hostname"], {}, CommandNotExecutable),
        (["ls"], {"user": "nobody-at-all"}, ConfigError),
        (["ls"], {"workdir": "/no/such"}, ConfigError),
        (["ls"], {"limits": {"nonsense": 5}}, ConfigError),
        (["ls"], {"limits": {"nofile": "1K"}}, ConfigError),
        (["ls"], {"stdin": True}, ConfigError),
        (["ls"], {"env": {"A=B": "x"}}, ConfigError),
        ([], {}, ConfigError),
        (["ls", "a\0b"], {}, ConfigError),
    ],
)
async def test_what_cannot_start(
    sb: Sandbox, command: list[str], options: dict[str, object], error: type[Exception]
) -> None:
    with pytest.raises(error):
        await sb.exec(command, **options)  # type: ignore[arg-type]
    assert (await sb.exec(["true"])).exit_code == 0


async def test_check_raises_with_everything(sb: Sandbox) -> None:
    with pytest.raises(ProcessError, match="ended with status 4: bad") as caught:
        await sb.exec("echo some; echo bad >&2; exit 4", check=True)
    assert (caught.value.exit_code, caught.value.stdout, caught.value.stderr) == (
        4,
        b"some\n",
        b"bad\n",
    )


async def test_signals(sb: Sandbox) -> None:
    r = await sb.exec("kill -SEGV $$")
    assert (r.exit_code, r.signal) == (128 + signal.SIGSEGV, signal.SIGSEGV)
    p = await sb.spawn(["sleep", "100"])
    await p.signal("TERM")
    assert (await p.wait()).signal == signal.SIGTERM


async def processes(sb: Sandbox, name: str) -> int:
    return int((await sb.exec(f"pgrep -cx {name}")).text)


async def gone(sb: Sandbox, name: str) -> None:
    async with asyncio.timeout(30):
        while await processes(sb, name):
            pass


async def test_a_timeout_kills_the_whole_group(sb: Sandbox) -> None:
    began = time.monotonic()
    with pytest.raises(ExecTimeout) as caught:
        await sb.exec("echo before; (setsid sleep 321 &) ; sleep 321", timeout=4)
    assert caught.value.stdout == b"before\n"
    assert time.monotonic() - began < 60
    await gone(sb, "sleep")


async def test_cancelling_kills_what_was_started(sb: Sandbox) -> None:
    task = asyncio.create_task(sb.exec("sleep 322 & sleep 322"))
    async with asyncio.timeout(30):
        while await processes(sb, "sleep") < 2:
            pass
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await gone(sb, "sleep")


async def test_a_background_child_does_not_delay_the_answer(sb: Sandbox) -> None:
    async with asyncio.timeout(30):
        r = await sb.exec("sleep 300 & echo started")
    assert r.text == "started\n"
    assert await processes(sb, "sleep") == 1


async def test_a_hundred_at_once(sb: Sandbox) -> None:
    results = await asyncio.gather(*(sb.exec(["echo", str(i)]) for i in range(100)))
    assert [r.text for r in results] == [f"{i}\n" for i in range(100)]


async def test_limits(sb: Sandbox) -> None:
    r = await sb.exec("ulimit -n; ulimit -Hn; ulimit -c", limits={"nofile": "64:128", "core": 0})
    assert r.text.split() == ["64", "128", "0"]


async def test_too_much_output_is_an_error_not_a_loss_of_memory(sb: Sandbox) -> None:
    with pytest.raises(ProcessError, match="max_output"):
        await sb.exec("yes", max_output="1M")
    await gone(sb, "yes")


async def test_spawn_streams_with_back_pressure(sb: Sandbox) -> None:
    async with await sb.spawn(["cat"], stdin=True) as p:
        await p.stdin.write(b"one\ntwo\n")
        assert await p.stdout.read_line() == b"one\n"
        assert await p.stdout.read_line() == b"two\n"
        p.stdin.close()
        assert await p.stdout.read() == b""
        assert (await p.wait()).exit_code == 0
    p = await sb.spawn("yes & echo $! >&2; wait")
    pid = (await p.stderr.read_line()).decode().strip()

    async def written() -> int:
        line = (await sb.exec(f"grep wchar /proc/{pid}/io")).text
        return int(line.split()[1])

    # Nobody reads: the writer must come to a stand.
    async with asyncio.timeout(60):
        before, now = -1, 0
        while before != now:
            before, now = now, await written()
            await asyncio.sleep(0.3)
    assert 0 < now < 32 << 20
    assert len(await p.stdout.read(100)) == 100
    await p.kill()
    assert (await p.wait()).signal == signal.SIGKILL


async def test_input_may_be_text_and_handles_say_what_they_are(image: str) -> None:
    secret = {"KEY": "hunter2"}
    async with Sandbox.create(image=image, memory="512M", env=secret) as sb:
        p = await sb.spawn("cat # hunter2", stdin=True, env=secret)
        await p.stdin.write("grün\n")
        assert await p.stdout.read_line() == "grün\n".encode()
        for wrong in (5, None):
            with pytest.raises(ConfigError, match="not bytes or text"):
                await p.stdin.write(wrong)  # type: ignore[arg-type]
        assert repr(p) == f"<Process {p.pid} running>"
        p.stdin.close()
        await p.wait()
        assert repr(p) == f"<Process {p.pid} exited>"
        job = await sb.spawn("exit 3 # hunter2", detached=True, env=secret)
        await job.wait()
        assert repr(job) == f"<Job {job.id} '/bin/sh' exited 3>"
        assert repr(sb) == f"<Sandbox {sb.name!r} {sb.id} image='test:latest' running>"
        for each in (sb, p, job, sb.record, sb.info(), *await Sandbox.list()):
            assert "hunter2" not in repr(each)
    assert repr(sb).endswith(" removed>")


async def test_leaving_the_block_kills(sb: Sandbox) -> None:
    async with await sb.spawn(["sleep", "300"]):
        assert await processes(sb, "sleep") == 1
    await gone(sb, "sleep")


async def test_terminal(sb: Sandbox) -> None:
    p = await sb.spawn(["sh"], tty=(40, 120))
    await p.stdin.write(b"stty size; tty; echo $TERM\n")
    seen = b""
    async with asyncio.timeout(30):
        while b"xterm" not in seen:
            seen += await p.stdout.read(4096)
    assert b"40 120" in seen and b"/dev/pts/" in seen
    await p.resize(50, 90)
    await p.stdin.write(b"stty size\n")
    async with asyncio.timeout(30):
        while b"50 90" not in seen:
            seen += await p.stdout.read(4096)
    await p.stdin.write(b"sleep 100\n")
    async with asyncio.timeout(30):
        while not await processes(sb, "sleep"):
            pass
    await p.stdin.write(b"\x03echo s$((40+2))\n")
    async with asyncio.timeout(30):
        while b"s42" not in seen:
            seen += await p.stdout.read(4096)
    p.stdin.close()
    assert (await p.wait()).exit_code == 130 or (await p.wait()).exit_code == 0


async def test_a_detached_process_outlives_its_handle(sb: Sandbox) -> None:
    job = await sb.spawn(["sleep", "300"], detached=True)
    async with await job.attach():
        pass
    assert await processes(sb, "sleep") == 1


async def test_a_stopped_sandbox_says_so(image: str) -> None:
    sandbox = await Sandbox.create(image=image, memory="512M")
    try:
        await sandbox.stop()
        with pytest.raises(WrongState, match="not running"):
            await sandbox.exec(["true"])
    finally:
        await sandbox.remove()
