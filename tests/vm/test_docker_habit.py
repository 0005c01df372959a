"""Programs that shell out to `docker` work with `sandlot` in its place."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import STATE
from tests.vm.test_cli import sandlot, until

pytestmark = pytest.mark.network  # a package is fetched from the Python package index, once

# Its dependencies are those of its agents and models; what runs commands needs only these.
PACKAGES = ["mini-swe-agent==2.4.6"]
NEEDED = ["pydantic>=2", "rich", "python-dotenv", "platformdirs"]

PROGRAM = """
import json, os, sys, time
from minisweagent.environments.docker import DockerEnvironment
environment = DockerEnvironment(
    image="test", executable=sys.argv[1], cwd="/tmp", env={"K": "a value"},
    forward_env=["FORWARDED"],
)
run = environment.execute
answers = [
    run({"command": "echo $K $FORWARDED; pwd; echo err >&2; exit 3"}),
    run({"command": "echo kept > file"}),
    run({"command": "cat file; echo 'a \\"quoted\\" line' | wc -l"}),
    run({"command": "pwd"}, cwd="/usr"),
    run({"command": "seq 200000 | tail -1; head -c 300000 /dev/zero | wc -c"}),
    run({"command": "sleep 60"}, timeout=2),
    run({"command": "pgrep -cx sleep"}),
]
print(json.dumps({"id": environment.container_id, "answers": answers}))
"""


@pytest.fixture(scope="module")
def packages() -> Path:
    """A folder with mini-swe-agent, kept between test runs."""
    target = STATE / "mini-swe-agent"
    if not (target / "minisweagent").exists():
        pip = [sys.executable, "-m", "pip", "install", "-q", "--target", str(target)]
        subprocess.run([*pip, "--no-deps", *PACKAGES], check=True, timeout=200)
        subprocess.run([*pip, "--upgrade", *NEEDED], check=True, timeout=200)
    return target


@pytest.mark.timeout(600)
def test_mini_swe_agent(image: str, packages: Path, tmp_path: Path) -> None:
    executable = Path(sys.executable).with_name("sandlot")
    r = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(executable)], capture_output=True, timeout=300,
        env={
            **os.environ, "PYTHONPATH": str(packages), "FORWARDED": "too", "HOME": str(tmp_path),
            "MSWEA_SILENT_STARTUP": "1", "MSWEA_GLOBAL_CONFIG_DIR": str(tmp_path),
        },
    )  # fmt: skip
    assert r.returncode == 0, r.stderr.decode()
    said = json.loads(r.stdout.splitlines()[-1])
    got = [(a["returncode"], a["output"]) for a in said["answers"]]
    assert got[0][0] == 3
    assert sorted(got[0][1].splitlines()) == sorted(["a value too", "/tmp", "err"])
    assert got[1:5] == [(0, ""), (0, "kept\n1\n"), (0, "/usr\n"), (0, "200000\n300000\n")]
    assert got[5][0] == -1 and "timed out" in said["answers"][5]["exception_info"]
    # The command line was killed: so was what it had started. The other sleep is the main command.
    assert got[6] == (0, "1\n")

    def gone() -> bool:
        return said["id"].encode() not in sandlot("ps", "-aq").stdout

    until(gone, "its clean-up did not remove the sandbox", seconds=120)
