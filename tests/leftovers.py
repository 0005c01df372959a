"""Fails when the tests have left a process, socket, mount or temporary file behind."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path


def leftovers(state: Path) -> list[str]:
    """What is left of sandboxes whose state lies below `state`, in words."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (
                (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            )
        except OSError:
            continue
        if int(process.name) != os.getpid() and (
            str(state) in command or "sandlot.sandbox.keeper" in command
        ):
            found.append(f"process {process.name}: {command[:160]}")
    mounts = Path("/proc/self/mounts").read_text()
    found += [f"mount {line}" for line in mounts.splitlines() if "sandlot" in line]
    found += [f"socket {path}" for path in state.rglob("*.sock")]
    found += [f"sandbox {path}" for path in state.glob("**/sandboxes/*")]
    found += [f"snapshot {path}" for path in state.glob("**/snapshots/*")]
    found += [f"half made: {path}" for path in state.glob("**/templates/*.new*")]
    temporary = Path(tempfile.gettempdir())
    began = (state / "began").stat().st_mtime  # what is older is another program's
    for path in temporary.glob("sandlot*"):
        if path.stat().st_ctime >= began:
            found.append(f"temporary file {path}")
    return found


if __name__ == "__main__":
    left = leftovers(Path(os.environ["SANDLOT_TEST_STATE"]))
    for each in left:
        sys.stderr.write(f"left behind: {each}\n")
    sys.exit(bool(left))
