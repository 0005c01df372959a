"""What listings clean up."""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path

from sandlot.sandbox.listing import sweep_doors


def door(path: Path, *, age: float, answered: bool) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(str(path))
    if answered:
        sock.listen()
    then = time.time() - age
    os.utime(path, (then, then))
    return sock


def test_the_doors_of_the_dead_are_removed(tmp_path: Path) -> None:
    made = [
        door(tmp_path / "alive.sock", age=5, answered=True),
        door(tmp_path / "dead.sock", age=5, answered=False),
        door(tmp_path / "known.sock", age=100, answered=False),
        door(tmp_path / "young.sock", age=0, answered=False),
        door(tmp_path / "old.sock", age=100, answered=True),
    ]
    sweep_doors(tmp_path, {"known"})
    assert {p.name for p in tmp_path.iterdir()} == {"alive.sock", "known.sock", "young.sock"}
    for sock in made:
        sock.close()
