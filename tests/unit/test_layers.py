"""The rules of the house, read from the source: imports point downwards, files stay small."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "sandlot"
UNIT = ROOT / "tests" / "unit"

ORDER = {
    "errors": 0, "settings": 1, "sizes": 1, "times": 1, "wire": 2, "state": 2, "secrets": 2,
    "engine": 3, "network": 3, "filesystem": 3, "guest": 4, "image": 4, "runtime": 4, "plugin": 5,
    "snapshot": 5, "files": 5, "remote": 6, "volume": 7, "sandbox": 8, "build": 9, "fleet": 10,
    "sync": 11, "cli": 12, "testing": 12,
}  # fmt: skip
MODULES = sorted(SOURCE.rglob("*.py"))

PURE = [
    *sorted(SOURCE.glob("wire/*.py")),
    *(
        SOURCE / "image" / f"{name}.py"
        for name in (
            "erofs",
            "mountpoints",
            "ondisk",
            "space",
            "tree",
            "tar",
            "reference",
            "digest",
            "config",
            "manifest",
        )
    ),
    *(
        SOURCE / "image" / "registry" / f"{name}.py"
        for name in ("credentials", "headers", "refusals", "registries", "words")
    ),
    *(SOURCE / "guest" / f"{name}.py" for name in ("cpio", "modules")),
    *(SOURCE / "files" / f"{name}.py" for name in ("archive", "info", "paths")),
    *(
        SOURCE / "build" / f"{name}.py"
        for name in ("dockerfile", "graph", "progress", "selection", "state", "variables")
    ),
    *(SOURCE / "sandbox" / f"{name}.py" for name in ("arguments", "ending", "sizes", "naming")),
    *(
        SOURCE / "network" / f"{name}.py"
        for name in (
            "addresses",
            "explain",
            "flow",
            "inspected",
            "learning",
            "limits",
            "quic",
            "matching",
            "names",
            "policy",
            "published",
            "rules",
        )
    ),
    *(
        SOURCE / "secrets" / f"{name}.py"
        for name in (
            "bodies",
            "hosts",
            "placeholder",
            "places",
            "replacer",
            "secret",
            "substitution",
        )
    ),
    *sorted(SOURCE.glob("network/dns/*.py")),
    *sorted(SOURCE.glob("network/http/*.py")),
    *sorted(SOURCE.glob("network/tls/*.py")),
    *(
        SOURCE / "fleet" / f"{name}.py"
        for name in (
            "compose",
            "document",
            "extending",
            "models",
            "planning",
            "problems",
            "spec",
            "validation",
            "variables",
            "words",
            "writing",
        )
    ),
    *(
        SOURCE / "remote" / f"{name}.py"
        for name in (
            "address",
            "artifact",
            "ballots",
            "chunking",
            "index",
            "manifest",
            "place",
            "store",
        )
    ),
    *(SOURCE / "snapshot" / f"{name}.py" for name in ("checking", "layout", "sparse")),
    *sorted(SOURCE.glob("filesystem/fuse/*.py")),
    *(SOURCE / "filesystem" / "memory" / f"{name}.py" for name in ("contents", "files", "room")),
    *(SOURCE / "plugin" / f"{name}.py" for name in ("hooks", "protocol", "translate")),
    *(
        SOURCE / "plugin" / "builtin" / f"{name}.py"
        for name in (
            "arguments",
            "budget",
            "command_policy",
            "metrics",
            "network_monitor",
            "rate_limiter",
        )
    ),
    *(
        SOURCE / "runtime" / f"{name}.py"
        for name in ("caller", "checking", "frames", "grant", "requests")
    ),
    SOURCE / "sizes.py",
    SOURCE / "engine" / "config.py",
    SOURCE / "engine" / "concatenation.py",
    SOURCE / "engine" / "qemu" / "argv.py",
    SOURCE / "engine" / "qemu" / "overlay.py",
]
IMPURE = {"asyncio", "socket", "subprocess"}

# Test files that mirror no module.
EXTRA_TESTS = {
    "wire/test_vectors.py", "network/test_attempts.py", "remote/test_killed.py", "runtime/test_attempts.py",
    "runtime/test_attempts_bytes.py", "sandbox/test_lending_attempts.py",
}  # fmt: skip
# Modules without a test file of their own: interfaces, thin joints, and what needs a machine.
COVERED_ELSEWHERE = {
    "testing/blob_suite.py": "tests/unit/remote/test_folder.py",
    "plugin/hooks.py": "tests/unit/plugin/test_chain.py",
    "plugin/builtin/arguments.py": "tests/unit/plugin/builtin/test_rate_limiter.py",
    "sandbox/visiting.py": "tests/vm/test_plugins.py",
    "sandbox/idleness.py": "tests/vm/test_owner.py",
    "wire/runtime.py": "tests/unit/wire/test_messages.py",
    "wire/volumes.py": "tests/unit/wire/test_messages.py",
    "runtime/caller.py": "tests/unit/sandbox/test_lending.py",
    "sandbox/volumes.py": "tests/vm/test_volumes.py",
    "sandbox/nudging.py": "tests/vm/test_volumes.py",
    "sandbox/mounting.py": "tests/vm/test_volumes.py",
    "sandbox/mounted.py": "tests/vm/test_volumes.py",
    "sizes.py": "tests/unit/sandbox/test_sizes.py",
    "fleet/executing.py": "tests/vm/test_fleet.py",
    "fleet/extending.py": "tests/unit/fleet/test_reading.py",
    "fleet/fleet.py": "tests/vm/test_fleet.py",
    "fleet/making.py": "tests/vm/test_fleet.py",
    "fleet/members.py": "tests/vm/test_fleet.py",
    "fleet/output.py": "tests/vm/test_fleet.py",
    "fleet/preparing.py": "tests/vm/test_fleet.py",
    "fleet/problems.py": "tests/unit/fleet/test_reading.py",
    "fleet/resolving.py": "tests/unit/fleet/test_reading.py",
    "fleet/spec.py": "tests/unit/fleet/test_reading.py",
    "fleet/state.py": "tests/vm/test_fleet.py",
    "fleet/validation.py": "tests/unit/fleet/test_reading.py",
    "fleet/words.py": "tests/unit/fleet/test_reading.py",
    "sync/fleets.py": "tests/unit/sync/test_facade.py",
    "filesystem/types.py": "tests/unit/filesystem/test_mount.py",
    "filesystem/blocks.py": "tests/unit/filesystem/test_fsspecfs.py",
    "filesystem/paths.py": "tests/unit/filesystem/test_simple.py",
    "filesystem/fuse/opcodes.py": "tests/unit/filesystem/fuse/test_requests.py",
    "filesystem/memory/room.py": "tests/unit/filesystem/memory/test_contents.py",
    "filesystem/memory/tree.py": "tests/unit/testing/test_machine.py",
    "filesystem/overlay/copying.py": "tests/unit/filesystem/overlay/test_overlayfs.py",
    "filesystem/overlay/layers.py": "tests/unit/filesystem/overlay/test_overlayfs.py",
    "filesystem/overlay/merging.py": "tests/unit/filesystem/overlay/test_overlayfs.py",
    "filesystem/overlay/moving.py": "tests/unit/filesystem/overlay/test_overlayfs.py",
    "filesystem/overlay/saving.py": "tests/unit/filesystem/overlay/test_overlayfs.py",
    "testing/checks.py": "tests/unit/testing/test_suite.py",
    "testing/client.py": "tests/unit/testing/test_suite.py",
    "testing/kernel.py": "tests/unit/testing/test_suite.py",
    "testing/suite_files.py": "tests/unit/testing/test_suite.py",
    "testing/suite_folders.py": "tests/unit/testing/test_suite.py",
    "testing/suite_states.py": "tests/unit/testing/test_suite.py",
    "testing/model.py": "tests/unit/testing/test_machine.py",
    "image/ondisk.py": "tests/unit/image/test_erofs.py",
    "image/space.py": "tests/unit/image/test_erofs.py",
    "image/saving.py": "tests/unit/image/test_archive.py",
    "image/layers.py": "tests/unit/image/test_store.py",
    "image/records.py": "tests/unit/image/test_store.py",
    "image/tally.py": "tests/unit/image/test_store.py",
    "image/config.py": "tests/unit/image/test_store.py",
    "image/digest.py": "tests/unit/image/test_blobs.py",
    "image/faults.py": "tests/unit/image/test_blobs.py",
    "image/scratch.py": "tests/unit/image/test_debian.py",
    "image/bootstrap.py": "tests/unit/image/test_debian.py",
    "network/http/h2_fields.py": "tests/unit/network/http/test_h2.py",
    "network/http/h2_joined.py": "tests/unit/network/http/test_h2.py",
    "network/http/h2_stream.py": "tests/unit/network/http/test_leg.py",
    "network/hooks.py": "tests/unit/network/test_gateway.py",
    "network/judge.py": "tests/unit/network/test_gateway.py",
    "network/relay.py": "tests/unit/network/test_gateway.py",
    "network/upstream.py": "tests/unit/network/test_router.py",
    "sandbox/network.py": "tests/vm/test_network.py",
    "sandbox/disks.py": "tests/vm/test_volumes_named.py",
    "sync/volumes.py": "tests/unit/sync/test_facade.py",
    "sync/remotes.py": "tests/unit/sync/test_facade.py",
    "times.py": "tests/unit/sandbox/test_sizes.py",
    "sandbox/reach.py": "tests/vm/test_network.py",
    "sync/network.py": "tests/unit/sync/test_facade.py",
    "wire/network.py": "tests/unit/wire/test_messages.py",
    "network/http/events.py": "tests/unit/network/http/test_h1.py",
    "wire/files.py": "tests/unit/wire/test_messages.py",
    "wire/message.py": "tests/unit/wire/test_messages.py",
    "files/files.py": "tests/vm/test_files.py",
    "files/watch.py": "tests/vm/test_files.py",
    "files/info.py": "tests/vm/test_files.py",
    "files/pack.py": "tests/unit/files/test_archive.py",
    "sync/files.py": "tests/unit/sync/test_facade.py",
    "build/api.py": "tests/unit/build/test_builder.py",
    "build/cache.py": "tests/unit/build/test_builder.py",
    "cli/build.py": "tests/vm/test_build.py",
    "wire/frames.py": "tests/unit/wire/test_mux.py",
    "wire/records.py": "tests/unit/wire/test_messages.py",
    "engine/base.py": "an interface",
    "engine/qemu/engine.py": "tests/vm/test_life.py",
    "engine/qemu/machine.py": "tests/vm/test_life.py",
    "engine/qemu/monitor.py": "tests/vm/test_life.py",
    "guest/agent.py": "tests/unit/cli/test_doctor.py",
    "sandbox/capture.py": "tests/vm/test_snapshot.py",
    "sandbox/marking.py": "tests/vm/test_live.py",
    "sandbox/streaming.py": "tests/vm/test_live.py",
    "sync/live.py": "tests/unit/sync/test_facade.py",
    "sandbox/hibernation.py": "tests/vm/test_hibernate.py",
    "sandbox/joining.py": "tests/vm/test_snapshot_layers.py",
    "sandbox/pool_door.py": "tests/vm/test_pool.py",
    "cli/pool.py": "tests/vm/test_pool.py",
    "sandbox/pool.py": "tests/vm/test_pool.py",
    "sandbox/branching.py": "tests/vm/test_snapshot.py",
    "sandbox/saving.py": "tests/vm/test_snapshot.py",
    "sandbox/snapshots.py": "tests/vm/test_snapshot.py",
    "sandbox/faults.py": "tests/vm/test_life.py",
    "snapshot/exporting.py": "tests/unit/sandbox/test_exchange.py",
    "snapshot/incoming.py": "tests/unit/snapshot/test_importing.py",
    "snapshot/usage.py": "tests/unit/snapshot/test_store.py",
    "sync/snapshots.py": "tests/unit/sync/test_facade.py",
    "wire/snapshot.py": "tests/unit/wire/test_messages.py",
    "sandbox/owned.py": "tests/vm/test_hostile.py",
    "sandbox/host.py": "tests/vm/test_life.py",
    "sandbox/lifecycle.py": "tests/vm/test_life.py",
    "sandbox/door.py": "tests/vm/test_life.py",
    "sandbox/keeper.py": "tests/vm/test_life.py",
    "sandbox/sandbox.py": "tests/vm/test_life.py",
    "sync/processes.py": "tests/unit/sync/test_facade.py",
    "sandbox/owner.py": "tests/vm/test_owner.py",
    "sandbox/life.py": "tests/vm/test_life.py",
    "sandbox/looking.py": "tests/vm/test_life.py",
    "sandbox/programs.py": "tests/vm/test_exec.py",
    "cli/branch.py": "tests/vm/test_cli_snapshot.py",
    "cli/run.py": "tests/unit/cli/test_main.py",
    "cli/exec.py": "tests/unit/cli/test_main.py",
    "cli/jobs.py": "tests/vm/test_jobs.py",
    "sandbox/job.py": "tests/vm/test_jobs.py",
    "cli/stats.py": "tests/vm/test_metrics.py",
    "engine/usage.py": "tests/vm/test_metrics.py",
    "sandbox/metrics.py": "tests/vm/test_metrics.py",
    "state/lines.py": "tests/unit/state/test_events.py",
    "cli/life.py": "tests/unit/cli/test_main.py",
    "cli/logs.py": "tests/vm/test_life.py",
}


def imported(path: Path) -> set[str]:
    """Every module that a file names, anywhere in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def room(path: Path) -> str:
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_imports_point_downwards(path: Path) -> None:
    own = room(path)
    if own == "__init__":
        return
    for name in imported(path):
        if name.partition(".")[0] != "sandlot":
            continue
        other = name.split(".")[1]
        assert other in ORDER, f"{own} imports the package itself: {name}"
        assert other == own or ORDER[other] < ORDER[own], f"{own} imports {name}"


@pytest.mark.parametrize("path", PURE, ids=lambda p: str(p.relative_to(SOURCE)))
def test_pure_modules_do_no_io(path: Path) -> None:
    assert not {name.partition(".")[0] for name in imported(path)} & IMPURE


def test_every_room_has_a_place_in_the_order() -> None:
    assert {room(p) for p in MODULES} - {"__init__", "__main__"} == set(ORDER)


def test_files_are_short() -> None:
    for folder in ("src", "agent", "launch", "tests", "bench", "protocol"):
        for path in (ROOT / folder).rglob("*"):
            if path.suffix in (".py", ".go"):
                assert len(path.read_text().splitlines()) <= 500, path


def test_no_module_is_a_drawer_for_anything() -> None:
    for path in (ROOT / "src").rglob("*.py"):
        assert path.stem not in {"utils", "util", "helpers", "common", "misc"}, path


def test_every_test_file_mirrors_a_module() -> None:
    for path in UNIT.rglob("test_*.py"):
        inside = path.relative_to(UNIT)
        if len(inside.parts) == 1 or str(inside) in EXTRA_TESTS:
            continue
        module = SOURCE / inside.with_name(inside.name.removeprefix("test_"))
        assert module.exists(), f"{inside} tests no module"


def test_every_module_has_a_test_file() -> None:
    for path in MODULES:
        inside = path.relative_to(SOURCE)
        if inside.name == "__init__.py":
            continue
        has = (UNIT / inside.with_name(f"test_{inside.name}")).exists()
        excused = str(inside) in COVERED_ELSEWHERE
        assert has != excused, f"{inside}: has a test {has}, is excused {excused}"


def test_excuses_name_files_that_exist() -> None:
    for module, where in COVERED_ELSEWHERE.items():
        assert (SOURCE / module).exists(), module
        if where.startswith("tests/"):
            assert (ROOT / where).exists(), where
