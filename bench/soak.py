"""Random life operations from several programs at once, with random SIGKILLs: nothing may be lost,
and nothing may be left.

python -m bench.soak [--operations 300] [--programs 4] [--seed N] [--image demo]

Every program owns some names and fights for others. Operations are whole `sandlot` commands; some
are killed in the middle, and so are keepers, machines and the programs themselves. What a command
has confirmed to be written (a marker, synced) must be there at the end, unless its sandbox was
removed on purpose; a command may fail only in one clear line.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SANDLOT = [sys.executable, "-m", "sandlot.cli.main"]
ROOT = Path(__file__).parents[1]
MEMORY = "256M"
SHARED = 2
PATIENCE = 180.0


@dataclass
class Ledger:
    """What one program knows to be written; a line each, so that its own death loses nothing."""

    path: Path

    def note(self, **entry: Any) -> None:
        with self.path.open("a") as file:
            file.write(json.dumps(entry) + "\n")

    def entries(self) -> list[dict[str, Any]]:
        if not self.path.exists():
            return []
        return [json.loads(line) for line in self.path.read_text().splitlines() if line]


@dataclass
class Program:
    """One of the programs: a loop of random commands."""

    mark: str
    number: int
    operations: int
    dice: random.Random
    ledger: Ledger
    image: str
    names: list[str] = field(default_factory=list)
    others: list[str] = field(default_factory=list)

    def run(self) -> None:
        self.names = [f"{self.mark}-{self.number}-{i}" for i in range(3)]
        self.others = [f"{self.mark}-shared-{i}" for i in range(SHARED)]
        done = sum(1 for e in self.ledger.entries() if e["what"] == "done")
        for _ in range(done):
            self.dice.random()  # a program that was killed goes on with other operations
        for number in range(done, self.operations):
            began = time.monotonic()
            operation = self.step()
            took = time.monotonic() - began
            self.ledger.note(what="done", operation=operation, number=number, seconds=took)

    def step(self) -> str:
        if self.dice.random() < 0.12:
            return self.strike()
        own = self.dice.random() < 0.7
        name = self.dice.choice(self.names if own else self.others)
        operation = self.dice.choice(
            ["create", "create", "run", "start", "start", "stop", "kill", "mark", "mark", "mark",
             "job", "pause", "unpause", "restart", "remove", "list", "logs"]
        )  # fmt: skip
        getattr(self, f"do_{operation}")(name, own)
        return operation

    def command(self, *words: str, kill: bool = True) -> subprocess.CompletedProcess[str] | None:
        """Run a command; None when it was killed in the middle."""
        victim = kill and self.dice.random() < 0.15
        process = subprocess.Popen(
            [*SANDLOT, *words], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        try:
            out, err = process.communicate(timeout=self.dice.random() * 1.5 if victim else PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            if not victim:
                self.ledger.note(what="hung", words=words)
            return None
        if "Traceback" in err or process.returncode not in (0, 125, 137, 143):
            self.ledger.note(what="wrong", words=words, status=process.returncode, err=err[-2000:])
        elif process.returncode == 125 and len(err.splitlines()) > 2 * max(1, err.count("hint:")):
            self.ledger.note(what="wrong", words=words, status=125, err=err[-2000:])
        return subprocess.CompletedProcess(words, process.returncode, out, err)

    def do_create(self, name: str, own: bool) -> None:
        self.command("create", "--name", name, "-m", MEMORY, self.image)

    def do_run(self, name: str, own: bool) -> None:
        flags = [] if own else ["--rm"]
        self.command("run", "-d", *flags, "--name", name, "-m", MEMORY, self.image, "sleep", "999")

    def do_start(self, name: str, own: bool) -> None:
        self.command("start", name)

    def do_stop(self, name: str, own: bool) -> None:
        self.command("stop", "-t", "1", name)

    def do_kill(self, name: str, own: bool) -> None:
        self.command("kill", name)

    def do_restart(self, name: str, own: bool) -> None:
        self.command("restart", "-t", "1", name)

    def do_pause(self, name: str, own: bool) -> None:
        self.command("pause", name)

    def do_unpause(self, name: str, own: bool) -> None:
        self.command("unpause", name)

    def do_logs(self, name: str, own: bool) -> None:
        self.command("logs", name)

    def do_list(self, name: str, own: bool) -> None:
        self.command("ps", "-a", "--json")

    def do_job(self, name: str, own: bool) -> None:
        self.command("exec", "-d", name, "sleep", str(self.dice.randrange(1, 100)))

    def do_mark(self, name: str, own: bool) -> None:
        marker = f"m{secrets.token_hex(4)}"
        self.command("start", name)
        before = self.command("inspect", name, kill=False)
        script = f"echo {marker} > /root/{marker}; sync"
        done = self.command("exec", name, "sh", "-c", script)
        if not own or before is None or done is None or before.returncode or done.returncode:
            return
        self.ledger.note(what="marked", name=name, marker=marker)

    def do_remove(self, name: str, own: bool) -> None:
        self.ledger.note(what="removing", name=name)
        self.command("rm", "-f", name)

    def strike(self) -> str:
        """Kill a keeper or a machine of ours."""
        victims = processes(self.mark)
        if victims:
            with contextlib.suppress(OSError):
                os.kill(self.dice.choice(victims), signal.SIGKILL)
        return "strike"


def processes(mark: str) -> list[int]:
    """The keepers and machines of this soak, by the mark in their names."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            if mark in command and ("sandlot.sandbox.keeper" in command or "qemu" in command):
                found.append(int(entry.name))
    return found


def soak(
    *, operations: int, programs: int, seed: int, image: str, state: Path, say: Any = print
) -> list[str]:
    """Run it on a state directory of its own; what went wrong, in words."""
    dice = random.Random(seed)
    mark = f"soak{seed}"
    ledgers = [Ledger(state / f"ledger-{n}") for n in range(programs)]
    share = -(-operations // programs)

    def start(number: int, turn: int) -> subprocess.Popen[bytes]:
        words = ["--worker", str(number), "--turn", str(turn), "--operations", str(share),
                 "--seed", str(seed), "--image", image, "--state", str(state)]  # fmt: skip
        return subprocess.Popen([sys.executable, "-m", "bench.soak", *words], cwd=ROOT)

    running = {n: start(n, 0) for n in range(programs)}
    turns = Counter[int]()
    struck = time.monotonic()
    while running:
        time.sleep(0.2)  # the beat of this loop, which also strikes now and then
        for number, process in list(running.items()):
            if process.poll() is None:
                continue
            if process.returncode == 0:
                del running[number]
            else:
                turns[number] += 1
                running[number] = start(number, turns[number])
        if running and time.monotonic() - struck > 5 + 10 * dice.random():
            struck = time.monotonic()
            running[dice.choice(list(running))].kill()
    say(f"programs that were killed and started again: {sum(turns.values())}")
    return judge(ledgers, mark, state, say)


def judge(ledgers: list[Ledger], mark: str, state: Path, say: Any) -> list[str]:
    """Look at what is there, remove it all, and look at what is left."""
    wrong: list[str] = []
    kept: dict[str, list[str]] = {}
    done = Counter[str]()
    for ledger in ledgers:
        for entry in ledger.entries():
            if entry["what"] == "done":
                done[entry["operation"]] += 1
            elif entry["what"] == "marked":
                kept.setdefault(entry["name"], []).append(entry["marker"])
            elif entry["what"] == "removing":
                kept.pop(entry["name"], None)
            else:
                wrong.append(json.dumps(entry))
    say(f"operations: {sum(done.values())} {dict(done)}")
    markers = sum(len(v) for v in kept.values())
    say(f"sandboxes with {markers} confirmed markers: {len(kept)}")
    for name, wanted in kept.items():
        _quiet("unpause", name)
        _quiet("start", name)
        seen = _quiet("exec", name, "ls", "/root")
        missing = set(wanted) - set(seen.stdout.split())
        if seen.returncode or missing:
            wrong.append(f"{name} lost {missing or 'all'}: {seen.stderr.strip()}")
    listed = _quiet("ps", "-a", "--json")
    if listed.returncode or listed.stderr:
        wrong.append(f"ps says {listed.stderr.strip()}")
    for name in [s["name"] for s in json.loads(listed.stdout or "[]")]:
        removed = _quiet("rm", "-f", name)
        if removed.returncode:
            wrong.append(f"rm -f {name}: {removed.stderr.strip()}")
    # Looked for again and again: they are not our children, and no file tells of its removal.
    deadline = time.monotonic() + 30
    while processes(mark) and time.monotonic() < deadline:
        time.sleep(0.1)
    _quiet("ps", "-a")  # sweeps
    while any((state / "run").glob("*")) and time.monotonic() < deadline:
        time.sleep(0.2)
        _quiet("ps", "-a")  # what was young the last time
    pruned = _quiet("prune", "-f")  # what was half made in the caches
    if pruned.returncode:
        wrong.append(f"prune -f: {pruned.stderr.strip()}")
    wrong += [f"process {pid} is left" for pid in processes(mark)]
    wrong += [f"left: {path}" for path in (state / "sandboxes").iterdir()]
    wrong += [f"left: {path}" for path in (state / "run").glob("*")]
    wrong += [f"left: {path}" for path in (state / "templates").glob("*.new*")]
    return wrong


def _quiet(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*SANDLOT, *words], capture_output=True, text=True, timeout=PATIENCE)


@contextlib.contextmanager
def own_state(source: Path) -> Iterator[Path]:
    """A state directory of its own, with the images, kernels and templates of another."""
    with tempfile.TemporaryDirectory(prefix="sandlot-soak-") as folder:
        state = Path(folder)
        for name in ("images", "kernels", "templates", "cache"):
            (source / name).mkdir(parents=True, exist_ok=True)
            (state / name).symlink_to(source / name)
        (state / "sandboxes").mkdir()
        (state / "run").mkdir()
        yield state


def environment(state: Path) -> None:
    """What the commands are to see."""
    os.environ["SANDLOT_DATA"] = str(state)
    os.environ["SANDLOT_RUNTIME"] = str(state / "run")


def main() -> int:
    """The program, and each of its workers."""
    parser = argparse.ArgumentParser(prog="bench.soak")
    parser.add_argument("--operations", type=int, default=300)
    parser.add_argument("--programs", type=int, default=4)
    parser.add_argument("--seed", type=int, default=secrets.randbelow(10**6))
    parser.add_argument("--image", default="demo")
    parser.add_argument("--worker", type=int)
    parser.add_argument("--turn", type=int, default=0)
    parser.add_argument("--state", type=Path)
    a = parser.parse_args()
    if a.worker is not None:
        environment(a.state)
        dice = random.Random(f"{a.seed} {a.worker} {a.turn}")
        ledger = Ledger(a.state / f"ledger-{a.worker}")
        Program(f"soak{a.seed}", a.worker, a.operations, dice, ledger, a.image).run()
        return 0
    from sandlot.settings import Settings

    print(f"seed {a.seed}", flush=True)
    began = time.monotonic()
    with own_state(Settings.read().data) as state:
        environment(state)
        wrong = soak(
            operations=a.operations, programs=a.programs, seed=a.seed, image=a.image, state=state
        )
    print(f"took {time.monotonic() - began:.0f} s")
    for each in wrong:
        print(f"WRONG: {each}")
    print("nothing lost, nothing left" if not wrong else f"{len(wrong)} things are wrong")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
