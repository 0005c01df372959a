"""File systems in this program's memory, mounted in a real machine."""

from __future__ import annotations

from sandlot import MemFs, OverlayFs, ReadOnly, Sandbox, SimpleFileSystem
from sandlot.testing import FileSystemClient


class Notes(SimpleFileSystem):
    """Notes in a dict."""

    def __init__(self) -> None:
        super().__init__()
        self.notes = {"today.txt": b"buy milk\n"}

    def list(self, path: str) -> list[str]:
        return list(self.notes)

    def read_bytes(self, path: str) -> bytes:
        return self.notes[path.strip("/")]

    def write_bytes(self, path: str, data: bytes) -> None:
        self.notes[path.strip("/")] = data


PROGRAM = """
set -eu
cd /mem
mkdir -p d/e
echo hello > d/a
ln d/a d/b
ln -s d/a link
test "$(cat link)" = hello
test "$(stat -c %h d/b)" = 2
mv d/a d/e/c
rm d/b
test "$(cat d/e/c)" = hello
dd if=/dev/zero of=big bs=1M count=40 2>/dev/null && exit 1 || true
rm big
dd if=/dev/zero of=fits bs=1M count=8 2>/dev/null
sync
test "$(stat -c %s fits)" = 8388608
cat /notes/today.txt
echo call home > /notes/later.txt
cat /both/lower
echo changed > /both/lower
rm /both/gone
ls /both
! touch /fixed/x 2>/dev/null
cat /fixed/lower
"""


async def test_they_are_what_programs_expect(image: str) -> None:
    lower = MemFs(size="1M")
    below = FileSystemClient(lower)
    await below.write_bytes("/lower", b"below\n")
    await below.write_bytes("/gone", b"x")
    fixed = MemFs(size="1M")
    await FileSystemClient(fixed).write_bytes("/lower", b"fixed\n")
    notes, memory = Notes(), MemFs(size="16M")
    volumes = {
        "/mem": memory, "/notes": notes, "/both": OverlayFs(lower, MemFs(size="1M")),
        "/fixed": ReadOnly(fixed),
    }  # fmt: skip
    async with Sandbox.create(image=image, memory="512M", volumes=volumes) as sb:
        done = await sb.exec(PROGRAM)
        assert done.exit_code == 0, done.stderr
        assert done.text.split() == ["buy", "milk", "below", "lower", "fixed"]
    assert notes.notes["later.txt"] == b"call home\n"
    assert await below.read_bytes("/lower") == b"below\n"
    inside = FileSystemClient(memory)
    assert await inside.read_bytes("/d/e/c") == b"hello\n"
    assert (await inside.stat("/fits")).size == 8 << 20
