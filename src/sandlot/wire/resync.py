"""The beginning of a session, sans-io (protocol/README.md, section 2)."""

from __future__ import annotations

from sandlot.errors import GuestProtocolError
from sandlot.wire.frames import resync_reply, resync_request

MAX_DISCARDED = 16 * 1024 * 1024


class Resync:
    """Waits for the agent's answer to our nonce and throws away what an old session left."""

    def __init__(self, token: bytes, nonce: bytes) -> None:
        self.request = resync_request(token, nonce)
        self._reply = resync_reply(nonce)
        self._tail = b""
        self._discarded = 0

    def receive(self, data: bytes) -> bytes | None:
        """Returns what follows the answer once it is there, None until then.

        Raises:
            GuestProtocolError: too much came before the answer.
        """
        data = self._tail + data
        found = data.find(self._reply)
        if found >= 0:
            return data[found + len(self._reply) :]
        keep = len(self._reply) - 1
        self._discarded += max(0, len(data) - keep)
        self._tail = data[-keep:]
        if self._discarded > MAX_DISCARDED:
            raise GuestProtocolError(f"no answer to resync within {MAX_DISCARDED} bytes")
        return None
