"""What a guest is offered can be imported as it is, and installed."""

from __future__ import annotations

import io
import subprocess
import sys
import zipfile
from pathlib import Path

from sandlot.runtime.wheel import wheel, wheel_name

USE = """
import sandlot, sandlot.sync
assert sandlot.sync.lent is sandlot and callable(sandlot.sync.Sandbox.current_runtime)
assert sandlot.__version__ == '1.2.3', sandlot.__version__
print(sandlot.__file__, callable(sandlot.Sandbox.current_runtime), sandlot.Network.deny_all())
"""


def test_it_is_imported_from_the_archive(tmp_path: Path) -> None:
    path = tmp_path / wheel_name("1.2.3")
    path.write_bytes(wheel("1.2.3"))
    shown = subprocess.run(
        [sys.executable, "-S", "-c", USE], env={"PYTHONPATH": str(path)}, capture_output=True,
        text=True, check=True,
    )  # fmt: skip
    assert str(path) in shown.stdout
    assert "True" in shown.stdout


def test_pip_installs_it_without_a_network(tmp_path: Path) -> None:
    path = tmp_path / wheel_name("1.2.3")
    path.write_bytes(wheel("1.2.3"))
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--target",
         str(tmp_path / "there"), str(path)],
        check=True, env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "PIP_CONFIG_FILE": "/dev/null"},
    )  # fmt: skip
    subprocess.run(
        [sys.executable, "-S", "-c", USE], env={"PYTHONPATH": str(tmp_path / "there")}, check=True
    )


def test_it_is_the_same_each_time() -> None:
    once = wheel("1")
    wheel.cache_clear()
    assert wheel("1") == once
    with zipfile.ZipFile(io.BytesIO(once)) as archive:
        assert archive.testzip() is None
        assert "sandlot/py.typed" in archive.namelist()
