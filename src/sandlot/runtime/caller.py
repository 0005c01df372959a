"""Who asks for what is being done: a program of the host, or a sandbox that was lent a runtime.

Set while the request of a guest is handled, and so in all that is awaited for it: starting, running
programs, files, stopping, and what a peer that was started so does by itself. Who comes by the door
of a peer is a program of the host.
"""

from __future__ import annotations

from contextvars import ContextVar

caller_id: ContextVar[str] = ContextVar("caller_id", default="")
"""The id of the sandbox that asks, or empty for the host's own programs."""
