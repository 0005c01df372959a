"""The command line against real machines, as a shell and a terminal see it."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

SANDLOT = [sys.executable, "-m", "sandlot.cli.main"]


def sandlot(*words: str, stdin: bytes = b"", **options: Any) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [*SANDLOT, *words], input=stdin, capture_output=True, timeout=120, **options
    )


def until(condition: Callable[[], bool], what: str, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


@pytest.fixture(scope="module", autouse=True)
def template(image: str) -> None:
    """Made before the first test, so that no test sees the talk about it."""
    assert sandlot("run", "--rm", image, "true").returncode == 0


class TestRun:
    def test_output_and_status_pass_through(self) -> None:
        r = sandlot("run", "--rm", "test", "sh", "-c", "echo out; echo err >&2; exit 7")
        assert (r.stdout, r.stderr, r.returncode) == (b"out\n", b"err\n", 7)

    @pytest.mark.parametrize(
        ("words", "status", "says"),
        [
            (["test", "no-such"], 127, b"command not found"),
            (["test", "/etc/hostname"], 126, b"cannot be executed"),
            (["no-image", "ls"], 125, b"no image"),
            (["--memory", "huge", "test", "ls"], 125, b"huge"),
            (["--privileged", "test", "ls"], 125, b"--privileged"),
            (["-w", "/etc/passwd/x", "test", "ls"], 125, b"/etc/passwd/x"),
            (["-u", "ghost", "test", "ls"], 125, b"ghost"),
            (["-it", "test", "ls"], 125, b"not a terminal"),
            (["test", "sh", "-c", "kill -9 $$"], 137, b""),
            (["--timeout", "1s", "test", "sleep", "60"], 124, b"longer than 1 s"),
        ],
    )
    def test_failures(self, words: list[str], status: int, says: bytes) -> None:
        r = sandlot("run", "--rm", *words)
        assert r.returncode == status, r.stderr
        assert says in r.stderr and r.stdout == b""
        assert len(r.stderr.splitlines()) <= 2, r.stderr

    def test_flags_in_dockers_spelling(self) -> None:
        r = sandlot(
            "run", "--rm", "-i", "-e", "A=1", "-e", "B", "-w", "/usr", "-u", "nobody", "--hostname", "h1",
            "--entrypoint", "sh", "test", "--", "-c", "echo $A $B $(pwd) $(id -un) $(uname -n); cat",
            stdin=b"fed", env={**os.environ, "B": "2"},
        )  # fmt: skip
        assert r.stdout == b"1 2 /usr nobody h1\nfed", r.stderr

    def test_without_rm_it_stays_stopped_and_keeps_its_log(self) -> None:
        name = f"stays-{os.getpid()}"
        try:
            r = sandlot(
                "run", "--name", name, "test", "sh", "-c", "echo said; echo loud >&2; exit 3"
            )
            assert r.returncode == 3
            listed = json.loads(sandlot("ps", "-a", "--json").stdout)
            mine = [s for s in listed if s["name"] == name]
            assert [(s["status"], s["exit_code"]) for s in mine] == [("stopped", 3)]
            logs = sandlot("logs", name)
            assert (logs.stdout, logs.stderr) == (b"said\n", b"loud\n")
            again = sandlot("run", "--name", name, "test", "true")
            assert again.returncode == 125 and b"exists already" in again.stderr
        finally:
            assert sandlot("rm", name).stdout == f"{name}\n".encode()

    def test_a_closed_pipe_ends_it(self) -> None:
        r = subprocess.run(
            ["bash", "-c", 'set -o pipefail; "$@" | head -1', "-", *SANDLOT, "run", "--rm", "test", "yes"],
            capture_output=True, timeout=120,
        )  # fmt: skip
        assert r.stdout == b"y\n" and b"Traceback" not in r.stderr
        assert r.returncode == 141

    def test_a_full_disk_ends_it(self) -> None:
        with open("/dev/full", "w") as full:
            r = subprocess.run(
                [*SANDLOT, "run", "--rm", "test", "yes"], stdout=full, stderr=subprocess.PIPE,
                timeout=120,
            )  # fmt: skip
        assert r.returncode == 125 and b"the output cannot be written: no space" in r.stderr

    def test_an_interrupt_reaches_the_command(self) -> None:
        script = "trap 'echo caught; exit 9' INT; echo ready; while :; do sleep 0.05; done"
        p = subprocess.Popen(
            [*SANDLOT, "run", "--rm", "test", "bash", "-c", script],
            stdout=subprocess.PIPE, start_new_session=True,
        )  # fmt: skip
        assert p.stdout is not None
        assert p.stdout.readline() == b"ready\n"
        p.send_signal(signal.SIGINT)
        assert p.stdout.read() == b"caught\n"
        assert p.wait(60) == 9
        p.stdout.close()


def test_the_life_of_a_sandbox() -> None:
    name = f"life-{os.getpid()}"
    try:
        made = sandlot("create", "--name", name, "test")
        assert made.returncode == 0 and len(made.stdout.strip()) == 12, made.stderr
        early = sandlot("exec", name, "true")
        assert early.returncode == 125 and b"sandlot start" in early.stderr
        assert sandlot("start", name).stdout == f"{name}\n".encode()
        assert name.encode() in sandlot("ps").stdout
        r = sandlot(
            "exec", "-i", "-e", "X=5", name, "sh", "-c", "cat; echo $X; exit 4", stdin=b"in "
        )
        assert (r.stdout, r.returncode) == (b"in 5\n", 4)
        assert sandlot("shell", name, stdin=b"echo $((6*7))\n").stdout == b"42\n"
        busy = sandlot("rm", name)
        assert busy.returncode == 125 and b"rm -f" in busy.stderr
        twice = sandlot("start", name)  # as Docker
        assert (twice.returncode, twice.stdout, twice.stderr) == (0, f"{name}\n".encode(), b"")
        attached = sandlot("attach", name)
        assert attached.returncode == 125 and b"exec -d" in attached.stderr
        said = sandlot("logs", name)
        assert (said.returncode, said.stdout) == (0, b"") and b"no main command" in said.stderr
        assert sandlot("exec", name, "sh", "-c", "echo kept > /root/f").returncode == 0
        assert sandlot("stop", name).returncode == 0
        assert name.encode() not in sandlot("ps").stdout
        assert sandlot("start", name).returncode == 0
        assert sandlot("exec", name, "cat", "/root/f").stdout == b"kept\n"
    finally:
        assert sandlot("rm", "-f", name).returncode == 0
    assert sandlot("exec", name, "true").returncode == 125
    gone = sandlot("rm", "-f", name)
    assert (gone.returncode, gone.stdout) == (0, b"") and b"no sandbox is named" in gone.stderr


def test_a_main_command_that_ends_at_once_is_told() -> None:
    name = f"ends-{os.getpid()}"
    try:
        assert sandlot("run", "-d", "--name", name, "test", "sh").returncode == 0
        assert sandlot("wait", name).stdout == b"0\n"
        for words in (["exec", name, "true"], ["shell", name], ["attach", name]):
            r = sandlot(*words)
            assert r.returncode == 125
            assert b"its main command `sh` ended with status 0 at 20" in r.stderr
            assert b"run -d -i" in r.stderr and b"sleep infinity" in r.stderr
        for words in (["kill", name], ["pause", name], ["unpause", name]):
            r = sandlot(*words)
            assert r.returncode == 125 and b"ended with status 0" in r.stderr
            assert b"sandlot start" not in r.stderr
        assert sandlot("rm", name).returncode == 0
        # The remedy that was named.
        assert sandlot("run", "-d", "-i", "--name", name, "test", "sh").returncode == 0
        assert sandlot("exec", name, "echo", "stays").stdout == b"stays\n"
    finally:
        sandlot("rm", "-f", name)


def test_more_of_a_life() -> None:
    name = f"more-{os.getpid()}"
    try:
        r = sandlot(
            "run", "-d", "--name", name, "-l", "team=red", "--pids-limit", "200", "test",
            "sh", "-c", "trap 'echo hup' HUP; echo up; while :; do sleep 0.1; done",
        )  # fmt: skip
        assert r.returncode == 0, r.stderr
        number = r.stdout.strip()
        assert sandlot("ps", "-q", "--filter", "label=team=red").stdout.strip() == number
        assert sandlot("ps", "-q", "--filter", "label=team=blue").stdout == b""
        line = sandlot(
            "ps", "--filter", f"name={name}", "--format", "{{.Names}}\t{{.State}}"
        ).stdout
        assert line == f"{name}\trunning\n".encode()
        (seen,) = json.loads(sandlot("inspect", name).stdout)
        assert seen["limits"]["pids"] == 200 and seen["status"] == "running"
        assert sandlot("pause", name).stdout == f"{name}\n".encode()
        refused = sandlot("exec", name, "true")
        assert refused.returncode == 125 and b"unpause" in refused.stderr
        for words in (["pause", name], ["start", name]):
            refused = sandlot(*words)
            assert refused.returncode == 125 and b"paused" in refused.stderr
        assert sandlot("unpause", name).returncode == 0
        again = sandlot("unpause", name)
        assert again.returncode == 125 and b"is not paused" in again.stderr
        assert sandlot("kill", "-s", "HUP", name).returncode == 0
        until(lambda: b"hup" in sandlot("logs", name).stdout, "the signal did not arrive")
        assert sandlot("restart", "-t", "0", name).returncode == 0
        waiting = subprocess.Popen([*SANDLOT, "wait", name], stdout=subprocess.PIPE)
        assert sandlot("kill", name).returncode == 0
        assert waiting.communicate(timeout=60)[0] == b"137\n"
        until(lambda: b"stopped (137), killed" in sandlot("ps", "-a").stdout, "no reason is told")
        assert sandlot("rename", name, f"{name}-2").returncode == 0
        said = sandlot(
            "events", "--no-follow", "--json", "--filter", f"id={number.decode()}"
        ).stdout
        kinds = [json.loads(line)["kind"] for line in said.splitlines()]
        assert kinds[0] == "created" and kinds[-1] == "renamed"
        assert {"started", "paused", "resumed", "exited", "stopped"} <= set(kinds)
    finally:
        for each in (name, f"{name}-2"):
            sandlot("rm", "-f", each)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["run", "-d", "--restart", "sometimes", "test", "true"], b"not a restart policy"),
        (["run", "--restart", "always", "test", "true"], b"needs a detached sandbox"),
        (["run", "--idle-action", "sleep", "test", "true"], b"hibernate"),
        (["run", "--idle-timeout", "soon", "test", "true"], b"--idle-timeout 'soon'"),
        (["run", "--stop-signal", "SIGNONE", "test", "true"], b"SIGNONE"),
        (["run", "--pids-limit", "3", "test", "true"], b"too few"),
        (["ps", "--filter", "color=red"], b"filter"),
        (["ps", "--format", "{{.Nothing}}"], b"Nothing"),
        (["events", "--no-follow", "--since", "soon"], b"not a time"),
        (["inspect", "no-such"], b"no sandbox is named"),
        (["attach", "no-such"], b"no sandbox is named"),
    ],
)
def test_wrong_words(words: list[str], says: bytes) -> None:
    name = f"wrong-{os.getpid()}"
    if words[0] == "run":
        words = [words[0], "--name", name, *words[1:]]
    r = sandlot(*words)
    assert r.returncode == 125 and says in r.stderr, r
    assert len(r.stderr.splitlines()) <= 2
    assert name.encode() not in sandlot("ps", "-a").stdout


def test_an_unreadable_record_is_told() -> None:
    name = f"unreadable-{os.getpid()}"
    assert sandlot("create", "--name", name, "test").returncode == 0
    (Path(os.environ["SANDLOT_DATA"]) / "sandboxes" / name / "sandbox.json").write_text("{")
    listed = sandlot("ps", "-a")
    assert listed.returncode == 0 and f"rm -f {name}".encode() in listed.stderr
    assert name.encode() not in listed.stdout
    assert f"rm -f {name}".encode() in sandlot("start", name).stderr
    assert sandlot("rm", "-f", name).returncode == 0
    assert name.encode() not in sandlot("ps", "-a").stderr


def test_run_detached_with_logs() -> None:
    name = f"detached-{os.getpid()}"
    try:
        r = sandlot(
            "run", "-d", "--name", name, "test", "sh", "-c", "echo one; sleep 2; echo two; exit 6"
        )
        assert r.returncode == 0 and len(r.stdout.strip()) == 12, r.stderr
        assert sandlot("logs", "-f", name).stdout == b"one\ntwo\n"

        def code() -> list[object]:
            listed = json.loads(sandlot("ps", "-a", "--json").stdout)
            return [
                s["exit_code"] for s in listed if s["name"] == name and s["status"] == "stopped"
            ]

        until(lambda: code() == [6], "the keeper did not end with its command")
    finally:
        sandlot("rm", "-f", name)


class Terminal:
    """A command on a pseudo terminal."""

    def __init__(self, *words: str) -> None:
        self.pid, self.fd = pty.fork()
        if not self.pid:
            os.execv(SANDLOT[0], [*SANDLOT, *words])
        self.seen = b""

    def expect(self, text: bytes, seconds: float = 60) -> None:
        deadline = time.monotonic() + seconds
        while text not in self.seen:
            assert time.monotonic() < deadline, (text, self.seen)
            if select.select([self.fd], [], [], 0.2)[0]:
                try:
                    self.seen += os.read(self.fd, 4096)
                except OSError:
                    assert text in self.seen, self.seen

    def type(self, text: bytes) -> None:
        os.write(self.fd, text)

    def wait(self) -> int:
        try:
            while select.select([self.fd], [], [], 60)[0] and os.read(self.fd, 4096):
                pass
        except OSError:
            pass
        status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        os.close(self.fd)
        return status


def test_a_terminal() -> None:
    t = Terminal("run", "--rm", "-it", "test", "bash", "--norc")
    t.type(b"echo s$((40+2)); tty\n")
    t.expect(b"s42")
    t.expect(b"/dev/pts/")
    import fcntl
    import struct
    import termios

    fcntl.ioctl(t.fd, termios.TIOCSWINSZ, struct.pack("HHHH", 33, 77, 0, 0))
    os.kill(t.pid, signal.SIGWINCH)
    deadline = time.monotonic() + 60
    while b"33 77" not in t.seen and time.monotonic() < deadline:
        t.type(b"stty size; echo t$((1+1))old\n")
        t.expect(b"t2old")
        t.seen = t.seen.replace(b"t2old", b"")
    assert b"33 77" in t.seen
    # Ctrl-C goes to the command in the sandbox, Ctrl-Z is its shell's job control. The command
    # itself says that it runs: before that a key would still be the shell's.
    t.type(b"sh -c 'echo g$((1+1))o; exec sleep 1000'\n")
    t.expect(b"g2o")
    t.type(b"\x03")
    t.expect(b"^C")
    t.type(b"echo after$?\n")
    t.expect(b"after130")
    t.type(b"sh -c 'echo h$((1+1))o; exec sleep 1000'\n")
    t.expect(b"h2o")
    t.type(b"\x1a")
    t.expect(b"Stopped")
    t.type(b"kill %1; exit 5\n")
    assert t.wait() == 5


def test_a_state_directory_that_cannot_be_used(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    r = sandlot("ps", env={**os.environ, "SANDLOT_DATA": str(blocked / "state")})
    assert r.returncode == 125
    assert str(blocked).encode() in r.stderr and b"SANDLOT_DATA" in r.stderr
