"""Running `mmdebstrap` without root, as a child that leaves nothing behind.

It is run in the first mode that works here: `root` for root with the right to mount, `unshare`
where user namespaces and subordinate ids are to be had, else `fakechroot`.
"""

from __future__ import annotations

import array
import contextlib
import fcntl
import os
import re
import selectors
import shutil
import signal
import subprocess
import tempfile
import termios
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, BinaryIO, cast

from sandlot.errors import ConfigError, HostError, ImageError, ResourceError, StateError
from sandlot.image.scratch import Scratch, reap, scratch

if TYPE_CHECKING:
    from sandlot.image.apt_sources import Source

Progress = Callable[[str, float | None], None]
"""Called with a stage's name and how much of the whole is done, 0 to 1, or None if unknown.
An exception that it raises ends the build."""

VARIANT = "apt"
"""`apt` is what `Essential: yes` and apt need: an agent can install more. `minbase` would add
the packages of priority `required` (mount, e2fsprogs, tzdata, …), which a guest whose root is
made by the host does not miss."""

_HOOKS = Path("/usr/share/mmdebstrap/hooks/maybe-merged-usr")
_PACKAGE = re.compile(r"[a-z0-9][a-z0-9+.-]+(:[a-z0-9-]+)?([=/][A-Za-z0-9.+~:-]+)?")
_PIPE_SIZE = 1 << 20
_TAIL = 60  # lines of its talk that are kept for errors
_MISSING = re.compile(
    r"Unable to locate package (\S+)|Package '([^']+)' has no installation candidate"
    r"|(?:Version|Release) '[^']+' for '([^']+)' was not found"
    r"|Couldn't find any package by (?:glob|regex) '([^']+)'"
)
_NO_RELEASE = re.compile(
    r"The repository '\S+ (\S+) (?:In)?Release' (?:does not have|no longer has) a Release file"
)


def check_packages(packages: Sequence[str]) -> None:
    """Raise ConfigError unless all are package names, perhaps with `=version` or `/suite`."""
    for package in packages:
        if not _PACKAGE.fullmatch(package):
            raise ConfigError(f"{package!r} is not the name of a package")


def choose_mode() -> str:
    """The `mmdebstrap` mode that works for this user on this machine.

    Raises HostError with the command that installs what is missing.
    """
    if shutil.which("mmdebstrap", path=_path()) is None:
        raise HostError(
            "`mmdebstrap` is needed to build an image from packages",
            hint="sudo apt-get install mmdebstrap uidmap",
        )
    if os.geteuid() == 0 and _works(
        "unshare", "--mount", "--pid", "--fork", "--ipc", "--uts", "--mount-proc", "true"
    ):
        return "root"
    if _works("mmdebstrap", "--unshare-helper", "true"):
        return "unshare"
    if all(shutil.which(name, path=_path()) for name in ("fakechroot", "fakeroot")):
        return "fakechroot"
    raise HostError(
        "an image can be built here neither with user namespaces nor with fakechroot",
        hint="sudo apt-get install uidmap fakechroot fakeroot",
    )


@contextlib.contextmanager
def package_tar(
    packages: Sequence[str], suite: str, sources: Sequence[Source], *,
    cache: Path | None = None, progress: Progress | None = None,
) -> Iterator[BinaryIO]:  # fmt: skip
    """A tar stream of a system with these packages, to be read to its end in a `with` block.

    `cache` is a folder for downloaded packages. Raises ImageError for packages that do not
    exist and for a build that fails, HostError when the tools are missing, ResourceError when
    the disk is full. However the block ends, the build's processes and files are gone then.
    """
    check_packages(packages)
    mode = choose_mode()
    with contextlib.ExitStack() as stack:
        place = stack.enter_context(_build_place())
        place.folder.mkdir(mode=0o755)
        place.folder.chmod(0o755)  # in a user namespace it is entered as somebody else
        debs = place.folder / "debs"
        debs.mkdir()
        if cache is not None:
            _take_cached(cache, debs)
        process = _start(mode, packages, suite, sources, place, cached=cache is not None)
        stack.callback(_end, process)
        talk = _Talk(process, progress or (lambda stage, fraction: None), mode)
        stack.callback(talk.close)
        talk.until_tar()
        assert process.stdout is not None
        try:
            yield cast("BinaryIO", process.stdout)
        except ImageError as error:
            # The reason for a torn stream is what its writer died of. If it lives, the
            # stream was whole and its reader has other complaints.
            with contextlib.suppress(subprocess.TimeoutExpired):
                if process.wait(2) != 0:
                    talk.close()
                    raise talk.error() from error
            raise
        talk.close()
        if process.wait() != 0:
            raise talk.error()
        if cache is not None:
            _keep(debs, cache)


def _start(
    mode: str, packages: Sequence[str], suite: str, sources: Sequence[Source], place: Scratch, *,
    cached: bool,
) -> subprocess.Popen[bytes]:  # fmt: skip
    command = [
        "mmdebstrap", f"--mode={mode}", f"--variant={VARIANT}", "--format=tar", "--verbose",
        "--dpkgopt=force-unsafe-io",  # a build that crashes is thrown away
        '--aptopt=Acquire::Languages "none"',
        '--aptopt=Acquire::Retries "2"',
        "--skip=check/empty",
    ]  # fmt: skip
    include = list(packages)
    if _HOOKS.is_dir():
        # Otherwise the package `usrmerge` does it, which brings all of Perl with it.
        command += [f"--hook-dir={_HOOKS}", "--skip=update"]
    if include:
        command.append(f"--include={','.join(include)}")
    if cached:
        # The archives must survive until the hook at the end has seen them.
        command += [
            "--skip=essential/unlink",
            '--setup-hook=mkdir -p "$1"/var/cache/apt/archives',
            "--setup-hook=sync-in debs /var/cache/apt/archives",
            "--customize-hook=sync-out /var/cache/apt/archives debs",
        ]
    command += [suite, "-", "-"]
    env = {
        name: value
        for name, value in os.environ.items()
        if name.lower().endswith("_proxy") or name in ("HOME", "USER", "LOGNAME")
    }
    # SOURCE_DATE_EPOCH must not get through: Python would compile files that are hashed
    # at every import.
    env |= {"PATH": _path(), "LC_ALL": "C.UTF-8", "TMPDIR": str(place.folder)}
    env["DEBIAN_FRONTEND"] = "noninteractive"
    if mode == "root":
        # Its mounts go with the build then, however that ends.
        command = ["unshare", "--mount", "--propagation", "private", "--", *command]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        cwd=place.folder, env=env, start_new_session=True, pass_fds=(place.lock_fd,),
    )  # fmt: skip
    assert process.stdin is not None and process.stdout is not None
    with contextlib.suppress(OSError):
        fcntl.fcntl(process.stdout, fcntl.F_SETPIPE_SZ, _PIPE_SIZE)
    with contextlib.suppress(BrokenPipeError), process.stdin as stdin:
        stdin.write("\n".join(source.deb822() for source in sources).encode())
    return process


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the process and all that it has started. It cleans up when it is asked kindly."""
    for pipe in (process.stdout, process.stderr):
        if pipe is not None:
            pipe.close()
    for signum, patience in ((signal.SIGTERM, 10.0), (signal.SIGKILL, 10.0)):
        if process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signum)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(patience)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)  # what has outlived its parent


def _has_data(pipe: IO[bytes]) -> bool:
    count = array.array("i", [0])
    fcntl.ioctl(pipe, termios.FIONREAD, count)
    return count[0] > 0


class _Talk:
    """What `mmdebstrap` says while it works: progress, and in the end the reason it failed."""

    def __init__(self, process: subprocess.Popen[bytes], progress: Progress, mode: str) -> None:
        assert process.stdout is not None and process.stderr is not None
        self._process = process
        self._stderr: IO[bytes] = process.stderr
        self._stdout: IO[bytes] = process.stdout
        self._progress = progress
        self._mode = mode
        self._tail: deque[str] = deque(maxlen=_TAIL)
        self._errors: deque[str] = deque(maxlen=_TAIL)
        self._rest = b""
        self._stage = "prepare"
        self._packages = 0
        self._seen = 0
        self._done = 0.0
        self._reader: threading.Thread | None = None

    def until_tar(self) -> None:
        """Report progress until the stream begins. Raises what `error` tells if it never does."""
        self._progress("prepare", 0.0)
        with selectors.DefaultSelector() as selector:
            selector.register(self._stderr, selectors.EVENT_READ)
            selector.register(self._stdout, selectors.EVENT_READ)
            while True:
                ready = {key.fileobj for key, _ in selector.select()}
                if self._stderr in ready and not self._feed(report=True):
                    break
                if self._stdout in ready:
                    break
        if _has_data(self._stdout):  # else it has failed
            self._progress("pack", 0.9)
        self._reader = threading.Thread(target=self._drain, daemon=True)
        self._reader.start()

    def close(self) -> None:
        """Wait for the last words."""
        if self._reader is not None:
            self._reader.join(10)

    def error(self) -> ImageError | HostError:
        """Why the build failed, in one sentence."""
        text = "\n".join([*self._errors, *self._tail])
        missing = _MISSING.search(text)
        if missing is not None:
            name = next(group for group in missing.groups() if group)
            return ImageError(f"there is no package `{name}` in the archive")
        release = _NO_RELEASE.search(text)
        if release is not None:
            return ImageError(
                f"there is no release `{release[1]}` in the archive",
                hint="--suite takes the name of a release, such as bookworm or noble",
            )
        if "No space left on device" in text or "You don't have enough free space" in text:
            return ResourceError("the disk is full", hint="TMPDIR may name another place")
        if re.search(r"Could(n't| not) resolve|Temporary failure|Could not connect|Connection "
                     r"(timed out|refused)|Network is unreachable", text):  # fmt: skip
            return ImageError(
                "the package archive cannot be reached",
                hint="check the network, the proxy variables and the host's apt configuration",
            )
        last = [line for line in self._errors if not line.startswith("E: setup failed")]
        reason = last[0] if last else "\n".join(list(self._tail)[-5:]) or "without a word"
        return ImageError(f"`mmdebstrap` failed in {self._mode} mode: {reason.strip()}")

    def _drain(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            while self._feed(report=False):
                pass

    def _feed(self, *, report: bool) -> bool:
        data = os.read(self._stderr.fileno(), 1 << 16)
        *lines, self._rest = (self._rest + data).replace(b"\r", b"\n").split(b"\n")
        if len(self._rest) > 1 << 16:
            self._rest = b""
        for raw in lines:
            line = raw.decode(errors="replace").rstrip()
            if line:
                self._tail.append(line)
                if line.startswith(("E: ", "dpkg: error")) or " Err:" in line:
                    self._errors.append(line)
                if report:
                    self._follow(line)
        return bool(data)

    def _follow(self, line: str) -> None:
        """Turn a line into progress. The fractions are a share of time, as it was measured."""
        if match := re.search(r"(\d+) newly installed", line):
            self._packages += int(match[1])
        if line.startswith("I: "):
            for sign, stage, fraction in (
                ("running apt-get update", "update", 0.02),
                ("maybe-merged-usr/setup", "update", 0.02),
                ("downloading packages", "download", 0.1), ("extracting archives", "extract", 0.25),
                ("installing essential", "install", 0.4), ("cleaning package", "clean", 0.9),
            ):  # fmt: skip
                if sign in line:
                    self._enter(stage, fraction)
        elif line.startswith("Get:") and self._stage == "download":
            self._step(0.1, 0.15, self._packages)
        elif line.startswith(("Unpacking ", "Setting up ")) and self._stage == "install":
            self._step(0.4, 0.5, 2 * self._packages)

    def _enter(self, stage: str, fraction: float) -> None:
        if stage != self._stage:
            self._stage, self._seen = stage, 0
            self._report(fraction)

    def _step(self, start: float, share: float, total: int) -> None:
        self._seen += 1
        self._report(start + share * min(1.0, self._seen / max(total, 1)))

    def _report(self, fraction: float) -> None:
        # More packages can turn up, which makes the share of those that are done smaller.
        self._done = max(self._done, fraction)
        self._progress(self._stage, self._done)


# Section: places


@contextlib.contextmanager
def _build_place() -> Iterator[Scratch]:
    """A folder that other users may enter: a user namespace's root is one of them."""
    root = Path(tempfile.gettempdir()) / f"sandlot-build-{os.geteuid()}"
    root.mkdir(mode=0o755, exist_ok=True)
    info = root.lstat()
    if info.st_uid != os.geteuid() or not root.is_dir() or root.is_symlink():
        raise StateError(f"{root} belongs to somebody else", hint="set TMPDIR to another folder")
    root.chmod(0o755)
    reap(root, _remove_foreign)
    try:
        with scratch(root) as place:
            try:
                yield place
            finally:
                _remove_foreign(place.folder)
    finally:
        with contextlib.suppress(OSError):
            root.rmdir()  # unless another build is under way


def _remove_foreign(folder: Path) -> None:
    """Delete a folder in which files may belong to subordinate ids."""
    shutil.rmtree(folder, ignore_errors=True)
    if folder.exists():
        _works("mmdebstrap", "--unshare-helper", "rm", "-rf", "--", str(folder))
        shutil.rmtree(folder, ignore_errors=True)


def _take_cached(cache: Path, debs: Path) -> None:
    """A snapshot of the cache: nobody can change it while it is read."""
    cache.mkdir(parents=True, exist_ok=True)
    for deb in cache.glob("*.deb"):
        with contextlib.suppress(OSError):
            try:
                os.link(deb, debs / deb.name)
            except OSError:
                shutil.copyfile(deb, debs / deb.name)


def _keep(debs: Path, cache: Path) -> None:
    """Put what was downloaded into the cache; each file appears there at once and whole."""
    for deb in debs.glob("*.deb"):
        known = cache / deb.name
        if not known.exists():
            with contextlib.suppress(OSError):
                part = cache / f"{deb.name}.{os.getpid()}.part"
                shutil.copyfile(deb, part)
                part.rename(known)


def _path() -> str:
    """Debian's users have no sbin in their PATH, but its tools are there."""
    return os.pathsep.join([os.environ.get("PATH", ""), "/usr/local/sbin", "/usr/sbin", "/sbin"])


def _works(*command: str) -> bool:
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=20, check=False,
            env={"PATH": _path(), "LC_ALL": "C.UTF-8"},
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0
