"""Programs that people run on volumes, each judged by what it checks itself.

python -m bench.programs [--on host memory overlay named disk] [--only git sqlite ...]

git, SQLite with two writers, PostgreSQL, fio, dbench, stress-ng, make, rsync, vim and pip, on a
volume of every kind and on the sandbox's own disk. A line for each: how it ended, and in how many
seconds. Ends with status 1 when one failed.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from tests.framework.posix import FILE_SYSTEMS, VOLUMES, FileSystem

from sandlot import Sandbox
from sandlot.image import build_debian_image
from sandlot.sandbox.host import Host
from sandlot.volume.store import VolumeStore

PACKAGES = [
    "python3", "python3-venv", "git", "sqlite3", "fio", "dbench", "stress-ng", "make", "rsync",
    "vim-tiny", "postgresql",
]  # fmt: skip
LIMIT = 1800  # seconds for each
GIT = """
git config --global user.name tester; git config --global user.email tester@example.com
git config --global init.defaultBranch main
git init -q tree
(cd tree
 for folder in $(seq 20); do
  mkdir d$folder
  for file in $(seq 25); do echo "$folder $file" > d$folder/f$file; done
 done
 git add -A; git commit -qm one
 for number in 1 2 3; do
  git mv d$number e$number; sed -i s/1/one/ d1$number/*; git commit -qam more$number
 done
 git checkout -q -b side HEAD~2; echo side > side; git add side; git commit -qm side
 git merge -q -m both main; git gc -q)
git clone -q --no-local tree copy
cd copy; git fsck --full --strict; test -z "$(git status --porcelain)"
git checkout -q HEAD~1; git stash list; git checkout -q side
test "$(git rev-parse 'HEAD^{tree}')" = "$(git -C ../tree rev-parse 'side^{tree}')"
"""
SQLITE = """
for mode in delete wal; do
 sqlite3 $mode.db "pragma journal_mode=$mode; create table t(who, n); create index i on t(n)"
 for who in one two; do
  python3 - $mode.db $who <<'END' &
import sqlite3, sys
base = sqlite3.connect(sys.argv[1], timeout=600, isolation_level=None)
for number in range(100):
    base.execute("begin immediate")
    base.execute("insert into t values (?, ?)", (sys.argv[2], number))
    base.execute("update t set n = n + 1 where n = ?", (number,))
    base.execute("commit" if number % 10 else "rollback")
END
  jobs="$jobs $!"
 done
 for job in $jobs; do wait $job; done
 jobs=
 test "$(sqlite3 $mode.db 'pragma integrity_check')" = ok
 test "$(sqlite3 $mode.db 'select count(*) from t')" = 180
done
"""
POSTGRES = """
bin=$(echo /usr/lib/postgresql/*/bin); chown postgres .
as() { setpriv --reuid postgres --regid postgres --clear-groups "$@"; }
as $bin/initdb -D base --no-instructions > /dev/null
as $bin/pg_ctl -w -t 300 -D base -o "-k /tmp -c listen_addresses=" -l /tmp/pg.log start > /dev/null
as createdb -h /tmp bench
as $bin/pgbench -h /tmp -i -q bench 2> /dev/null
as $bin/pgbench -h /tmp -c 4 -t 25 bench > /dev/null
as $bin/pg_ctl -w -t 300 -D base -m immediate stop > /dev/null
as $bin/pg_ctl -w -t 300 -D base -o "-k /tmp -c listen_addresses=" -l /tmp/pg.log start > /dev/null
test "$(as psql -h /tmp -At bench -c 'select count(*) from pgbench_history')" = 100
as psql -h /tmp -At bench -c "create extension amcheck" > /dev/null
as psql -h /tmp -At bench -c "select bt_index_check(oid, true) from pg_class where relkind = 'i'
 and relname like 'pgbench%'" > /dev/null
as $bin/pg_ctl -w -t 300 -D base -m fast stop > /dev/null
"""
FIO = """
for how in "sync rw=randrw" "psync rw=randwrite" "mmap rw=randrw" "libaio rw=randwrite"; do
 set -- $how
 fio --name=one --directory=. --ioengine=$1 --$2 --size=16M --bsrange=512-64k --numjobs=2 \
  --verify=crc32c --verify_fatal=1 --do_verify=1 --fallocate=none --minimal > /tmp/fio.log \
  || { tail -5 /tmp/fio.log; exit 1; }
 rm -f one.*
done
"""
DBENCH = "dbench -t 20 -c $(ls /usr/share/dbench/client.txt) -D . 3 | tail -1"
STRESS = """
bad=
for what in access chmod chown copy-file dentry dir dirdeep dirmany fallocate fcntl filename flock \
 fpunch fsize fstat getdent hdd inotify iomix lease link locka lockf lockofd mknod open rename seek \
 symlink sync-file touch utime xattr; do
 stress-ng --seed 7 --temp-path . --timeout 3 --$what 2 --verify --oom-avoid > /tmp/stress.log 2>&1 \
  || { bad="$bad $what"; grep -E 'fail|rror|nvalid|nrecog' /tmp/stress.log | head -3; }
done
test -z "$bad" || { echo failed: $bad; exit 1; }
"""
MAKE = """
cat > Makefile <<'END'
N := $(shell seq 150)
all: whole
whole: $(N:%=o/%)
\tcat $^ > $@
o/%: s/% | o
\tmd5sum < $< > $@
o:
\tmkdir o
END
mkdir s; for n in $(seq 150); do echo $n > s/$n; done
make -j8 -s; test "$(wc -l < whole)" = 150
make -j8 -q; touch s/77; ! make -q; test "$(make -j8 | grep -c md5sum)" = 1
"""
RSYNC = """
mkdir -p from/deep/er; ln -s deep/er from/soft; ln from/soft from/hard-soft
for n in $(seq 200); do echo $n > from/deep/f$n; done
head -c 3000000 /dev/urandom > from/large; truncate -s 20M from/sparse; chmod 4711 from/large
setfattr() { python3 -c 'import os, sys; os.setxattr(sys.argv[1], "user.x", b"y")' "$1"; }
setfattr from/large; chown 12:34 from/deep/f3; touch -d 2001-02-03 from/deep/f4
rsync -aHXS from/ to/; test -z "$(rsync -aHXSni --checksum from/ to/)"
dd if=/dev/zero of=from/large bs=1000 seek=100 count=1 conv=notrunc status=none
rsync -aHX --inplace --no-whole-file from/ to/; rsync -aHX --delete to/ /tmp/back/
cmp from/large /tmp/back/large; diff -r from /tmp/back; rm -r /tmp/back
"""
VIM = """
echo one > text; chmod 640 text; ln text other
for backup in yes no auto; do
 vim.tiny -es -u NONE -c "set backupcopy=$backup writebackup" -c "normal Go$backup" -c wq text
done
test "$(cat text)" = "$(printf 'one\\nyes\\nno\\nauto')"; test "$(stat -c %a text)" = 640
test "$(ls)" = "$(printf 'other\\ntext')"
"""
PIP = """
python3 -m venv home
home/bin/python - <<'END'
import zipfile
with zipfile.ZipFile("made-1.0-py3-none-any.whl", "w") as wheel:
    names = [f"made/m{n}.py" for n in range(150)] + ["made/__init__.py"]
    for name in names:
        wheel.writestr(name, "x = 1\\n")
    info = "made-1.0.dist-info"
    wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\\nName: made\\nVersion: 1.0\\n")
    wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
    wheel.writestr(f"{info}/RECORD", "".join(f"{n},,\\n" for n in names))
END
home/bin/pip install -q --no-index ./made-1.0-py3-none-any.whl
home/bin/python -c "import made.m149"; home/bin/pip uninstall -qy made
! home/bin/python -c "import made" 2> /dev/null
"""
LARGE = """
python3 - <<'END'
import os
with open("large", "w+b") as file:
    for at in (0, (4 << 30) - 3, (6 << 30) + 5, (1 << 40) + 1):
        file.seek(at)
        file.write(b"at %d" % at)
    file.flush()
    for at in (0, (4 << 30) - 3, (6 << 30) + 5, (1 << 40) + 1):
        file.seek(at)
        assert file.read(20).startswith(b"at %d" % at), at
    assert os.fstat(file.fileno()).st_size == (1 << 40) + 1 + len(b"at %d" % at)
    assert os.fstat(file.fileno()).st_blocks < 1 << 16
os.unlink("large")
names = ["a" * 255, "é" * 127, " ", "-rf", "new\\nline", "\\udcff\\udcfe", "*", "con", "a\\\\b"]
for name in names:
    open(name, "x").close()
assert sorted(os.listdir()) == sorted(names)
END
"""
MANY = """
python3 - <<'END'
import os
os.mkdir("many")
for number in range(3000):
    os.close(os.open(f"many/{number}", os.O_CREAT | os.O_EXCL | os.O_WRONLY))
assert sorted(map(int, os.listdir("many"))) == list(range(3000))
for entry in os.scandir("many"):
    os.unlink(entry.path)
os.rmdir("many")
END
"""
PROGRAMS = {
    "git": GIT, "sqlite": SQLITE, "postgres": POSTGRES, "fio": FIO, "dbench": DBENCH,
    "stress-ng": STRESS, "make": MAKE, "rsync": RSYNC, "vim": VIM, "pip": PIP, "large": LARGE,
    "many": MANY,
}  # fmt: skip


@contextlib.contextmanager
def removed(arguments: dict[str, object]) -> Iterator[None]:
    """A named volume is gone afterwards."""
    try:
        yield
    finally:
        volumes = arguments.get("volumes")
        for name in volumes.values() if isinstance(volumes, dict) else ():
            if isinstance(name, str):
                store = VolumeStore.current()
                store.remove(store.find(name))


async def run(fs: FileSystem, only: list[str]) -> int:
    """How many of them failed on one file system."""
    failed = 0
    with tempfile.TemporaryDirectory(prefix="sandlot-bench-") as folder:
        arguments = fs.arguments(Path(folder))
        with removed(arguments):
            async with Sandbox.create(image="programs", memory="1G", **arguments) as sandbox:
                above = str(Path(fs.path).parent)  # PostgreSQL's user has to reach it
                await sandbox.exec(["mkdir", "-p", fs.path], check=True)
                await sandbox.exec(["chmod", "755", above, fs.path], check=True)
                for name in only:
                    place = f"{fs.path}/{name}"
                    script = f"set -e; mkdir {place}; cd {place}\n{PROGRAMS[name]}"
                    began = time.monotonic()
                    done = await sandbox.exec(["bash", "-c", script], timeout=LIMIT)
                    took = time.monotonic() - began
                    await sandbox.exec(["rm", "-rf", place], timeout=LIMIT)
                    said = (done.stdout + done.stderr).decode(errors="replace").strip()
                    word = "failed" if done.exit_code else "passed"
                    note = said[-2000:] if done.exit_code else said[-100:].replace("\n", " ")
                    # What this program is for, line by line: one may take half an hour.
                    print(f"{fs.name:8} {name:10} {word} {took:7.1f} s  {note}", flush=True)
                    failed += done.exit_code != 0
    return failed


def main() -> int:
    """The program."""
    parser = argparse.ArgumentParser(prog="bench.programs")
    kinds = {fs.name: fs for fs in (*VOLUMES, *FILE_SYSTEMS) if not fs.mount}
    parser.add_argument("--on", nargs="+", choices=kinds, default=list(kinds))
    parser.add_argument("--only", nargs="+", choices=PROGRAMS, default=list(PROGRAMS))
    arguments = parser.parse_args()
    build_debian_image(Host.current().images, "programs", PACKAGES)
    return sum(asyncio.run(run(kinds[name], arguments.only)) for name in arguments.on) != 0


if __name__ == "__main__":
    sys.exit(main())
