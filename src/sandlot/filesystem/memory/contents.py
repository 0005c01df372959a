"""What is in a file: bytes with holes. Pure.

It is kept in chunks of 64 KiB. A chunk is dense, a bytearray that begins at its start and is as long
as what was written; or loose, a dict of its pages by number; or not there, which reads as zeros.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator

from sandlot.filesystem.memory.room import PAGE, Room, full

CHUNK = 65536
PER_CHUNK = CHUNK // PAGE
LARGEST = (1 << 62) - 1
_ZEROS = memoryview(bytes(CHUNK))

Loose = dict[int, bytearray]
Buffer = bytes | bytearray | memoryview


def _pages(size: int) -> int:
    return (size + PAGE - 1) // PAGE


class Contents:
    """The bytes of one file. `pages` is how many are held."""

    __slots__ = ("_chunks", "pages", "room", "size")

    def __init__(self, room: Room) -> None:
        self.room = room
        self.size = 0
        self.pages = 0
        self._chunks: dict[int, bytearray | Loose] = {}

    def __del__(self) -> None:
        self.room.used -= self.pages * PAGE

    def _count(self, pages: int) -> None:
        self.pages += pages
        self.room.used += pages * PAGE

    # -- reading ---------------------------------------------------------------------------

    def read(self, offset: int, size: int) -> bytes:
        """Up to `size` bytes; fewer only at the end."""
        end = min(offset + size, self.size)
        if end <= offset:
            return b""
        index, start = divmod(offset, CHUNK)
        stop = start + end - offset
        if stop <= CHUNK:
            chunk = self._chunks.get(index)
            if isinstance(chunk, bytearray) and stop <= len(chunk):
                return bytes(memoryview(chunk)[start:stop])
        parts: list[memoryview] = []
        while offset < end:
            index, start = divmod(offset, CHUNK)
            stop = min(CHUNK, start + end - offset)
            self._gather(parts, self._chunks.get(index), start, stop)
            offset += stop - start
        return b"".join(parts)

    @staticmethod
    def _gather(
        parts: list[memoryview], chunk: bytearray | Loose | None, start: int, stop: int
    ) -> None:
        if chunk is None:
            parts.append(_ZEROS[start:stop])
        elif isinstance(chunk, bytearray):
            parts.append(memoryview(chunk)[start:stop])
            if stop > len(chunk):
                parts.append(_ZEROS[max(start, len(chunk)) : stop])
        else:
            while start < stop:
                number, inside = divmod(start, PAGE)
                until = min(PAGE, inside + stop - start)
                page = chunk.get(number)
                parts.append((_ZEROS if page is None else memoryview(page))[inside:until])
                start += until - inside

    # -- writing ---------------------------------------------------------------------------

    def write(self, offset: int, data: Buffer, *, whole: bool = False) -> int:
        """Write bytes; how many is returned. Only a lack of room makes that fewer, and with `whole`
        nothing is written then.

        Raises:
            OSError: there is no room (ENOSPC), or files do not get that large (EFBIG).
        """
        length = len(data)
        if offset + length > LARGEST:
            raise OSError(errno.EFBIG, "the file would be too large")
        view = memoryview(data)
        index, start = divmod(offset, CHUNK)
        if start + length <= CHUNK:  # the most frequent case first: a part of one dense chunk
            chunk = self._chunks.get(index)
            if isinstance(chunk, bytearray) and start + length <= len(chunk):
                chunk[start : start + length] = view
                if offset + length > self.size:
                    self.size = offset + length
                return length
        needed = self._needed(offset, length)
        if needed and needed > self.room.free_pages:
            length = 0 if whole else self._fitting(offset, length, self.room.free_pages)
            if not length:
                raise full()
        done = 0
        while done < length:
            index, start = divmod(offset + done, CHUNK)
            step = min(CHUNK - start, length - done)
            self._put(index, start, view[done : done + step])
            done += step
        self.size = max(self.size, offset + length)
        return length

    def _needed(self, offset: int, length: int) -> int:
        """How many pages more it takes to write there."""
        needed, end = 0, offset + length
        while offset < end:
            index, start = divmod(offset, CHUNK)
            stop = min(CHUNK, start + end - offset)
            needed += self._needed_in(self._chunks.get(index), start, stop)
            offset += stop - start
        return needed

    @staticmethod
    def _needed_in(chunk: bytearray | Loose | None, start: int, stop: int) -> int:
        first, last = start // PAGE, _pages(stop)
        if chunk is None:
            return last - first
        if isinstance(chunk, bytearray):
            held = _pages(len(chunk))
            return max(0, last - max(first, held))
        return sum(number not in chunk for number in range(first, last))

    def _fitting(self, offset: int, length: int, free: int) -> int:
        """How many of the bytes can be written with so many pages more."""
        done = 0
        while done < length:
            step = min(PAGE - (offset + done) % PAGE, length - done)
            free -= self._needed(offset + done, step)
            if free < 0:
                break
            done += step
        return done

    def _put(self, index: int, start: int, data: memoryview) -> None:
        chunk = self._chunks.get(index)
        stop = start + len(data)
        self._count(self._needed_in(chunk, start, stop))
        if chunk is None and start < PAGE:
            chunk = self._chunks[index] = bytearray(start)
            chunk += data
            return
        if isinstance(chunk, bytearray) and start <= _pages(len(chunk)) * PAGE:
            if start > len(chunk):
                chunk += _ZEROS[: start - len(chunk)]
            chunk[start:stop] = data
            return
        chunk = self._loosened(index)
        done = 0
        while done < len(data):
            number, inside = divmod(start + done, PAGE)
            step = min(PAGE - inside, len(data) - done)
            page = chunk.get(number)
            if page is None:
                page = chunk[number] = bytearray(PAGE)
            page[inside : inside + step] = data[done : done + step]
            done += step
        if len(chunk) == PER_CHUNK:
            self._chunks[index] = bytearray().join(chunk[n] for n in range(PER_CHUNK))

    def _loosened(self, index: int) -> Loose:
        """A chunk as pages."""
        chunk = self._chunks.get(index)
        if isinstance(chunk, dict):
            return chunk
        loose: Loose = {}
        if chunk is not None:
            for number in range(_pages(len(chunk))):
                page = chunk[number * PAGE : (number + 1) * PAGE]
                loose[number] = page + bytes(PAGE - len(page))
        self._chunks[index] = loose
        return loose

    # -- holes and room --------------------------------------------------------------------

    def truncate(self, size: int) -> None:
        """Cut off or lengthen, by a hole."""
        if size > LARGEST:
            raise OSError(errno.EFBIG, "the file would be too large")
        if size < self.size or self._chunks:
            self.punch(size, LARGEST)
        self.size = size

    def punch(self, offset: int, end: int) -> None:
        """Make a hole; the size stays."""
        first, last = offset // CHUNK, (end - 1) // CHUNK
        if last - first < len(self._chunks):
            touched = [n for n in range(first, last + 1) if n in self._chunks]
        else:
            touched = [n for n in self._chunks if first <= n <= last]
        for index in touched:
            base = index * CHUNK
            self._punch(index, max(offset - base, 0), min(end - base, CHUNK))

    def _punch(self, index: int, start: int, stop: int) -> None:
        chunk = self._chunks[index]
        if isinstance(chunk, bytearray):
            if stop >= len(chunk):
                before = _pages(len(chunk))
                del chunk[start:]
                self._count(_pages(len(chunk)) - before)
                if not chunk:
                    del self._chunks[index]
                return
            if _pages(start) >= stop // PAGE:  # within a page or two: no page goes
                chunk[start:stop] = _ZEROS[: stop - start]
                return
        loose = self._loosened(index)
        while start < stop:
            number, inside = divmod(start, PAGE)
            until = min(PAGE, inside + stop - start)
            if until - inside == PAGE:
                if loose.pop(number, None) is not None:
                    self._count(-1)
            elif number in loose:
                loose[number][inside:until] = _ZEROS[: until - inside]
            start += until - inside
        if not loose:
            del self._chunks[index]

    def allocate(self, offset: int, end: int) -> None:
        """Hold what is not held yet between two places, as zeros. The size stays.

        Raises:
            OSError: there is no room; nothing is held more then.
        """
        self.check_room(offset, end)
        while offset < end:
            index, start = divmod(offset, CHUNK)
            stop = min(CHUNK, start + end - offset)
            self._allocate(index, start, stop)
            offset += stop - start

    def check_room(self, offset: int, end: int) -> None:
        """Raise OSError (ENOSPC) when what is not held yet of a range is more than fits."""
        if end > LARGEST:
            raise OSError(errno.EFBIG, "the file would be too large")
        free = self.room.free_pages
        # The first says so without walking over a range that is far too long.
        if _pages(end) - offset // PAGE - self.pages > free:
            raise full()
        if self._needed(offset, end - offset) > free:
            raise full()

    def _allocate(self, index: int, start: int, stop: int) -> None:
        chunk = self._chunks.get(index)
        first, last = start // PAGE, _pages(stop)
        missing = self._needed_in(chunk, start, stop)
        if not missing:
            return
        self._count(missing)
        if chunk is None and not first:
            self._chunks[index] = bytearray(last * PAGE)
        elif isinstance(chunk, bytearray) and first <= _pages(len(chunk)):
            chunk += bytes(last * PAGE - len(chunk))
        else:
            loose = self._loosened(index)
            for number in range(first, last):
                if number not in loose:
                    loose[number] = bytearray(PAGE)

    # -- where the data is -----------------------------------------------------------------

    def data_from(self, offset: int) -> int | None:
        """Where the next data begins, at or after a place; None when only a hole follows."""
        index, start = divmod(offset, CHUNK)
        while offset < self.size:
            chunk = self._chunks.get(index)
            if chunk is not None:
                held = self._held(chunk)
                found = next((n for n in range(start // PAGE, PER_CHUNK) if n in held), None)
                if found is not None:
                    at = max(index * CHUNK + found * PAGE, offset)
                    return at if at < self.size else None
                index += 1
            else:
                near = range(index + 1, index + 1 + PER_CHUNK)
                found = next((n for n in near if n in self._chunks), None)
                if found is None:
                    found = min((n for n in self._chunks if n > index), default=None)
                if found is None:
                    return None
                index = found
            offset, start = index * CHUNK, 0
        return None

    def hole_from(self, offset: int) -> int:
        """Where the next hole begins, at or after a place; there is one at the end."""
        index, start = divmod(offset, CHUNK)
        while offset < self.size:
            chunk = self._chunks.get(index)
            if chunk is None:
                return offset
            held = self._held(chunk)
            found = next((n for n in range(start // PAGE, PER_CHUNK) if n not in held), None)
            if found is not None:
                return min(max(index * CHUNK + found * PAGE, offset), self.size)
            index += 1
            offset, start = index * CHUNK, 0
        return self.size

    @staticmethod
    def _held(chunk: bytearray | Loose) -> range | Loose:
        return range(_pages(len(chunk))) if isinstance(chunk, bytearray) else chunk

    def extents(self, most: int = 1 << 20) -> Iterator[tuple[int, int]]:
        """Offset and length of the data, in order, in pieces of at most `most` bytes."""
        start = end = 0
        for index in sorted(self._chunks):
            held = self._held(self._chunks[index])
            for number in sorted(held):
                at = index * CHUNK + number * PAGE
                if at >= self.size:
                    break  # room that was allocated beyond the end
                if at != end or end - start >= most:
                    if end > start:
                        yield start, min(end, self.size) - start
                    start = at
                end = at + PAGE
        if end > start and start < self.size:
            yield start, min(end, self.size) - start

    def copy_from(self, other: Contents, offset: int, to: int, length: int) -> int:
        """Copy a range of another file, or of another place in this one; holes stay holes."""
        length = min(length, max(other.size - offset, 0))
        done = 0
        while done < length:
            at = offset + done
            data = other.data_from(at)
            if data is None or data >= offset + length:
                self.punch(to + done, to + length)
                self.size = max(self.size, to + length)
                return length
            if data > at:
                self.punch(to + done, to + done + data - at)
                done += data - at
            step = min(other.hole_from(data) - data, offset + length - data, 1 << 20)
            wrote = self.write(to + done, other.read(data, step))
            done += wrote
            if wrote < step:
                break
        return done
