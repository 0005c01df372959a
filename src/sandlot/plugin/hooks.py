"""The hooks: one class of context for each. What is written here is the reference.

A plugin has a method of the hook's name, synchronous or not, that is given the context. It returns
None, or the context with other values in the fields that `changes` names; it raises `Refuse` where
the hook `asks`. A hook that does not ask is told what has happened, and its answer does not count.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from sandlot.network.flow import Decision, Flow
from sandlot.runtime.caller import caller_id

if TYPE_CHECKING:
    from sandlot.network.flows import FlowRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class HookContext:
    """What every context has.

    `sandbox` is the name of the sandbox; `caller_id` the id of the sandbox that asked for it, or
    empty when a program of the host did. What a sandbox that was started by another does of its own
    has that other's.
    """

    hook: ClassVar[str] = ""
    asks: ClassVar[bool] = True
    changes: ClassVar[tuple[str, ...]] = ()
    remote: ClassVar[bool] = True
    """Whether plugins that are programs of their own are given it as well."""

    sandbox: str
    caller_id: str = field(default_factory=caller_id.get)

    def subject(self) -> str:
        """What is refused, for messages."""
        return f"sandbox {self.sandbox}"


@dataclass(frozen=True, slots=True, kw_only=True)
class StartContext(HookContext):
    """`on_start`: a machine of the sandbox is about to be brought up.

    `kind` is `"start"`, `"restart"` (the keeper begins again), `"restore"` (it goes on from a
    snapshot or a fork) or `"wake"`. Memory is in bytes. `Refuse` keeps it from starting.
    """

    hook: ClassVar[str] = "on_start"

    id: str
    image: str
    kind: str = "start"
    memory: int = 0
    cpus: int = 0
    detached: bool = False

    def subject(self) -> str:
        return f"starting sandbox {self.sandbox}"


@dataclass(frozen=True, slots=True, kw_only=True)
class StopContext(HookContext):
    """`on_stop`: the sandbox has stopped, for whatever reason; nothing can be refused any more.

    `exit_code` is that of its main command, or None; `duration` in seconds since it was started.
    """

    hook: ClassVar[str] = "on_stop"
    asks: ClassVar[bool] = False

    reason: str = ""
    exit_code: int | None = None
    duration: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecContext(HookContext):
    """`on_exec`: a program is about to be started, by `exec`, `spawn`, a job or as main command.

    `id` is the same in `on_exec_end` and `on_terminal`. Bytes that are no UTF-8 are in `argv` and
    `env` as Python's `surrogateescape` has them. `env` is all of its environment, in which secrets
    are placeholders. `tty` is (rows, columns) or None; `timeout` in seconds or None; `limits` are
    those of setrlimit(2) as `NAME=SOFT[:HARD]`. `Refuse` keeps it from starting.
    """

    hook: ClassVar[str] = "on_exec"
    changes: ClassVar[tuple[str, ...]] = ("argv", "env", "workdir", "user", "timeout", "limits")

    id: int
    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    workdir: str = ""
    user: str = ""
    tty: tuple[int, int] | None = None
    detached: bool = False
    timeout: float | None = None
    limits: tuple[str, ...] = ()

    def subject(self) -> str:
        return f"`{self.argv[0][:60] if self.argv else ''}` in sandbox {self.sandbox}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecEndContext(HookContext):
    """`on_exec_end`: a program has ended. Times in seconds, `peak_memory` in bytes.

    The times of the processor are the guest's own word. `exit_code` is -1 when its end is not
    known, as when the machine ended first.
    """

    hook: ClassVar[str] = "on_exec_end"
    asks: ClassVar[bool] = False

    id: int
    argv: tuple[str, ...]
    exit_code: int
    duration: float
    user_time: float = 0.0
    system_time: float = 0.0
    peak_memory: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class TerminalContext(HookContext):
    """`on_terminal`: something of a program with a terminal: `kind` is `"output"` or `"input"`,
    with the bytes in `data`, or `"resize"` to `rows` and `columns`. For plugins in Python only."""

    hook: ClassVar[str] = "on_terminal"
    asks: ClassVar[bool] = False
    remote: ClassVar[bool] = False

    id: int
    kind: str
    data: bytes = b""
    rows: int = 0
    columns: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectContext(HookContext):
    """`on_connect`: a connection, or datagrams to somewhere new, about which the rules have decided.

    Another `decision` may be returned, also one that allows what the rules refuse; `Refuse` is one
    that does not.
    """

    hook: ClassVar[str] = "on_connect"
    changes: ClassVar[tuple[str, ...]] = ("decision",)

    flow: Flow
    decision: Decision

    def subject(self) -> str:
        return str(self.flow)


@dataclass(frozen=True, slots=True, kw_only=True)
class DnsContext(HookContext):
    """`on_dns`: a name is about to be looked up, about which the rules have decided.

    Another `decision` may be returned; `Refuse` is one that refuses.
    """

    hook: ClassVar[str] = "on_dns"
    changes: ClassVar[tuple[str, ...]] = ("decision",)

    name: str
    decision: Decision

    def subject(self) -> str:
        return f"looking up {self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpRequestContext(HookContext):
    """`on_http_request`: a request that the gateway reads, as the guest sent it: of a host that a
    secret or `inspect=` names, or in plain HTTP where only a rule on a name lets it through.

    `headers` are pairs of text; secrets are placeholders in them. `Refuse` answers it with 403.
    """

    hook: ClassVar[str] = "on_http_request"

    flow: Flow
    method: str
    target: str
    authority: str
    version: str
    headers: tuple[tuple[str, str], ...] = ()

    def subject(self) -> str:
        return f"{self.method} to {self.authority}"


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretUseContext(HookContext):
    """`on_secret_use`: a placeholder was found in a request. `place` is such as `header NAME`;
    `replaced` says whether the value goes out, or the placeholder as it stands. The value is not
    told. `Refuse` ends the connection before anything of the request is sent."""

    hook: ClassVar[str] = "on_secret_use"

    flow: Flow
    secret: str
    host: str
    place: str
    replaced: bool

    def subject(self) -> str:
        return f"secret {self.secret} for {self.host}"


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowContext(HookContext):
    """`on_flow`: the record of a connection, of datagrams or of a question of the DNS was written:
    at its beginning, when it was refused, and at its end, with what it carried. `record` is that of
    `sb.network.flows()`, as it is now."""

    hook: ClassVar[str] = "on_flow"
    asks: ClassVar[bool] = False

    record: FlowRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferContext(HookContext):
    """`on_transfer`: `size` bytes of a connection went either way; `pause` is how many seconds to
    wait before more of it do, and may be made longer. `Refuse` cuts the connection. A datagram for
    which there is a pause is dropped. Connections that are looked into are not told. Synchronous,
    and for plugins in Python only: it is called for every piece."""

    hook: ClassVar[str] = "on_transfer"
    changes: ClassVar[tuple[str, ...]] = ("pause",)
    remote: ClassVar[bool] = False

    size: int
    pause: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class FsContext(HookContext):
    """`on_fs`: a file or folder of a volume is about to be opened, made, renamed, removed or
    changed in what it is, not each read and write.

    `operation` is `open`, `create`, `mkdir`, `unlink`, `rename` and so on, `path` the path in the
    sandbox, `target` where a rename leads, `flags` those of open(2); `pid`, `uid` and `gid` are
    those of the guest's program. `Refuse` is EACCES for it.
    """

    hook: ClassVar[str] = "on_fs"

    operation: str
    path: str
    target: str = ""
    flags: int = 0
    writes: bool = False
    pid: int = 0
    uid: int = 0
    gid: int = 0

    def subject(self) -> str:
        return f"{self.operation} of {self.path}"


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotContext(HookContext):
    """`on_snapshot`: the sandbox is about to be saved, also its disk alone. `kind` is `"snapshot"`,
    with the `name` and `tags` that were asked for (the name is empty when one will be chosen), or
    `"fork"`.
    `Refuse` keeps it from being saved. The sleep of an idle one is not asked about."""

    hook: ClassVar[str] = "on_snapshot"

    name: str = ""
    kind: str = "snapshot"
    disk_only: bool = False
    tags: tuple[str, ...] = ()

    def subject(self) -> str:
        return f"a {self.kind} of sandbox {self.sandbox}"


@dataclass(frozen=True, slots=True, kw_only=True)
class RefusedContext(HookContext):
    """`on_refused`: a plugin has refused what the hook `refused` asked about, or failed there, which
    refuses it too. `about` says what it was, `reason` the text that the plugin gave."""

    hook: ClassVar[str] = "on_refused"
    asks: ClassVar[bool] = False

    refused: str
    plugin: str
    about: str
    reason: str
    failed: bool = False


CONTEXTS: tuple[type[HookContext], ...] = (
    StartContext, StopContext, ExecContext, ExecEndContext, TerminalContext, ConnectContext,
    DnsContext, HttpRequestContext, SecretUseContext, FlowContext, TransferContext, FsContext,
    SnapshotContext, RefusedContext,
)  # fmt: skip
HOOKS: dict[str, type[HookContext]] = {context.hook: context for context in CONTEXTS}
