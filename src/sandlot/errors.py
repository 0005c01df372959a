"""Every error that Sandlot raises.

SandboxError                     the root; carries `hint`, the remedy in one line
├── ConfigError (ValueError)     an argument is wrong: a name, a size, a flag
│   └── SandboxfileError         a Sandboxfile is wrong; carries `problems`, each with its place
├── FleetError                   members of a fleet did not come up; carries `failures`
├── HostError                    this machine lacks something
│   ├── EngineUnavailable        no virtual machine monitor, or no accelerator that works
│   ├── KernelUnavailable        no guest kernel could be had
│   ├── StateError               the state directory cannot be used
│   └── ResourceError            not enough memory or disk
├── ImageError                   an image cannot be made or read
│   ├── ImageNotFound (LookupError)
│   ├── BuildError               a Dockerfile is wrong, or one of its commands failed
│   └── RegistryError            a registry cannot be reached, refuses, or answers wrongly
│       ├── ConnectionFailed     no connection, or none that lasted: worth another try
│       └── CertificateRefused   its certificate is not to be trusted
├── RemoteError                  a remote cannot be used; carries its `address`
│   ├── RemoteUnreachable        no connection, cut off, or busy: worth another try
│   ├── RemoteRefused            credentials or rights are missing, or there is no such place
│   ├── RemoteFull               no room is left
│   ├── RemoteDamaged            what it gives was changed, is old, or is not what belongs there
│   ├── RemoteConflict           somebody else pushed, or is at work there
│   ├── RemoteNotFound (LookupError)  nothing was pushed under this name
│   ├── KeyMissing               no key of yours opens it
│   ├── BlobNotFound (LookupError)
│   └── BlobChanged              somebody else was faster: nothing was replaced
├── SandboxNotFound (LookupError)
├── SnapshotError                a snapshot cannot be made or used
│   ├── SnapshotNotFound (LookupError)
│   ├── SnapshotDamaged          a file of it is cut off or was changed
│   ├── SnapshotMismatch         it does not fit this host; carries `differences`
│   └── SnapshotInterrupted      a call was under way in a machine that is another one now
├── VolumeNotFound (LookupError)
├── SecretUnavailable (LookupError)  the value of a secret cannot be had now
├── NameTaken                    another sandbox, snapshot or volume has this name
├── WrongState                   the sandbox is stopped, running, or busy
├── SandboxDied                  the machine ended while it was needed
├── BootError                    the guest did not come up
├── FileError (OSError)           a file in the sandbox: carries `errno` and `path`
│   ├── FileNotFound (FileNotFoundError)
│   ├── FileExists (FileExistsError)
│   ├── FileForbidden (PermissionError)
│   ├── FileIsDirectory (IsADirectoryError)
│   └── FileNotDirectory (NotADirectoryError)
├── ExecError                    a process could not be started
│   ├── CommandNotFound          shells say 127
│   └── CommandNotExecutable     shells say 126
├── Refuse                       a hook or a plugin does not allow it: raised by them
│   └── PluginFailed             a plugin failed, so what it was asked about is not done
├── ProcessError                 a process failed and `check=True` was asked
│   └── ExecTimeout (TimeoutError)
└── ProtocolError                abstract; the blame is in the subclass
    ├── LocalProtocolError       we broke the rules: a bug in Sandlot
    └── GuestProtocolError       the guest broke them: it is hostile or damaged
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence


class SandboxError(Exception):
    """Root of all errors. `hint` says in one line what mends it, or is empty."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class ConfigError(SandboxError, ValueError):
    """An argument is wrong; the message names it."""


class SandboxfileError(ConfigError):
    """A Sandboxfile is wrong: all of it in `message`, one line each.

    `problems` has the same as mappings with `file`, `line`, `column`, `message` and `hint`.
    """

    def __init__(
        self, message: str, *, hint: str = "", problems: Sequence[Mapping[str, object]] = ()
    ) -> None:
        super().__init__(message, hint=hint)
        self.problems = list(problems)


class FleetError(SandboxError):
    """Members of a fleet did not come to what the file says. `failures` maps each to the reason."""

    def __init__(
        self, message: str, *, hint: str = "", failures: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message, hint=hint)
        self.failures = dict(failures or {})


class HostError(SandboxError):
    """This machine lacks something that is needed."""


class EngineUnavailable(HostError):
    """There is no usable virtual machine monitor or accelerator."""


class KernelUnavailable(HostError):
    """No guest kernel could be found or downloaded."""


class StateError(HostError):
    """The state directory cannot be read or written."""


class ResourceError(HostError):
    """Not enough memory or disk for what was asked."""


class ImageError(SandboxError):
    """An image cannot be made, read or removed."""


class ImageNotFound(ImageError, LookupError):
    """No image of this name is in the store."""


class BuildError(ImageError):
    """A Dockerfile is wrong or has what is not supported, or one of its commands failed.

    `line` is where, from 1; `exit_code` is that of a RUN.
    """

    def __init__(
        self, message: str, *, hint: str = "", line: int | None = None, exit_code: int | None = None
    ) -> None:
        super().__init__(f"line {line}: {message}" if line else message, hint=hint)
        self.line = line
        self.exit_code = exit_code


class RegistryError(ImageError):
    """A registry cannot be reached, refuses, or answers wrongly.

    `registry` is its name, `status` the HTTP status if it gave one, and `retry_after` the seconds
    that it asks to wait, as with 429.
    """

    def __init__(
        self, message: str, *, hint: str = "", registry: str = "", status: int | None = None,
        retry_after: float | None = None,
    ) -> None:  # fmt: skip
        super().__init__(message, hint=hint)
        self.registry = registry
        self.status = status
        self.retry_after = retry_after


class ConnectionFailed(RegistryError):
    """No connection, or none that lasted: worth another try.

    `unreachable` tells that there was none at all, `tls` that it did not come to speak TLS, and
    `attempts` how many tries are sensible.
    """

    def __init__(
        self, message: str, *, hint: str = "", registry: str = "", status: int | None = None,
        tls: bool = False, unreachable: bool = False, attempts: int = 100,
    ) -> None:  # fmt: skip
        super().__init__(message, hint=hint, registry=registry, status=status)
        self.tls = tls
        self.unreachable = unreachable
        self.attempts = attempts


class CertificateRefused(RegistryError):
    """The certificate of a registry is not to be trusted: not worth another try."""


class RemoteError(SandboxError):
    """A remote cannot be used. `address` is where it is."""

    def __init__(self, message: str, *, hint: str = "", address: str = "") -> None:
        super().__init__(message, hint=hint)
        self.address = address


class RemoteUnreachable(RemoteError):
    """No connection to the remote, or none that lasted, or it is busy: worth another try.

    `retry_after` is how many seconds it asks to wait, `received` what came of a blob before the
    cut, and `pin` which content that was, where the store can tell.
    """

    def __init__(
        self, message: str, *, hint: str = "", address: str = "",
        retry_after: float | None = None, received: bytes = b"", pin: str = "",
    ) -> None:  # fmt: skip
        super().__init__(message, hint=hint, address=address)
        self.retry_after = retry_after
        self.received = received
        self.pin = pin


class RemoteRefused(RemoteError):
    """The remote does not allow it: credentials, rights, or there is no such bucket or host."""


class RemoteFull(RemoteError):
    """The remote has no room left."""


class RemoteDamaged(RemoteError):
    """What the remote gives was changed, is older than what was seen, or is not what belongs there;
    nothing of it was kept."""


class RemoteConflict(RemoteError):
    """Somebody else pushed meanwhile, or is at work there; nothing was changed."""


class RemoteNotFound(RemoteError, LookupError):
    """Nothing was pushed under this name, or no such version is left."""


class KeyMissing(RemoteError):
    """There is no key, or none of yours opens the remote."""


class BlobNotFound(RemoteError, LookupError):
    """The remote has no blob under this key."""


class BlobChanged(RemoteError):
    """A blob is another one than expected: somebody else replaced it; nothing was put."""


class SandboxNotFound(SandboxError, LookupError):
    """No sandbox of this name or id exists."""


class VolumeNotFound(SandboxError, LookupError):
    """No named volume has this name."""


class SnapshotError(SandboxError):
    """A snapshot cannot be made, read, used or removed."""


class SnapshotNotFound(SnapshotError, LookupError):
    """There is no such snapshot."""


class SnapshotDamaged(SnapshotError):
    """A file of a snapshot is cut off or was changed; nothing was run from it."""


class SnapshotMismatch(SnapshotError):
    """A saved machine cannot run here. `differences` maps what differs to (saved, here)."""

    def __init__(
        self, message: str, *, hint: str = "", differences: dict[str, tuple[str, str]] | None = None
    ) -> None:
        super().__init__(message, hint=hint)
        self.differences = differences or {}


class SnapshotInterrupted(SnapshotError):
    """A call was under way when its sandbox was saved and put aside; it may be tried again."""


class SecretUnavailable(SandboxError, LookupError):
    """The value of a secret cannot be had: its source is missing or fails. `secret` is its name."""

    def __init__(self, message: str, *, hint: str = "", secret: str = "") -> None:
        super().__init__(f"secret {secret}: {message}" if secret else message, hint=hint)
        self.reason = message
        self.secret = secret


class NameTaken(SandboxError):
    """Another sandbox, snapshot or volume has this name."""


class WrongState(SandboxError):
    """The call does not fit the sandbox's state; the message names both."""


class SandboxDied(SandboxError):
    """The machine ended while it was needed. `console_tail` holds its last lines."""

    def __init__(self, message: str, *, hint: str = "", console_tail: str = "") -> None:
        super().__init__(message, hint=hint)
        self.console_tail = console_tail


class BootError(SandboxError):
    """The guest did not come up. Carries the monitor's command and the console's last lines."""

    def __init__(
        self,
        message: str,
        *,
        command: Sequence[str] = (),
        exit_code: int | None = None,
        console_tail: str = "",
        hint: str = "",
    ) -> None:
        super().__init__(message, hint=hint)
        self.command = list(command)
        self.exit_code = exit_code
        self.console_tail = console_tail


class FileError(SandboxError, OSError):
    """Something with a file in the sandbox failed. Carries `path` and, where there is one, `errno`."""

    def __init__(self, message: str, *, path: str = "", number: int = 0, hint: str = "") -> None:
        SandboxError.__init__(self, message, hint=hint)
        OSError.__init__(self, number, message)
        self.path = self.filename = path

    def __str__(self) -> str:
        return self.message


class FileNotFound(FileError, FileNotFoundError):
    """No such file or folder in the sandbox."""


class FileExists(FileError, FileExistsError):
    """The name is taken in the sandbox."""


class FileForbidden(FileError, PermissionError):
    """The sandbox's user may not do this."""


class FileIsDirectory(FileError, IsADirectoryError):
    """A folder is where a file was expected."""


class FileNotDirectory(FileError, NotADirectoryError):
    """Something else is where a folder was expected."""


class ExecError(SandboxError):
    """A process could not be started. `exit_code` is what a shell would report."""

    exit_code = 125


class CommandNotFound(ExecError):
    """The program does not exist in the sandbox."""

    exit_code = 127


class CommandNotExecutable(ExecError):
    """The program exists but cannot be executed."""

    exit_code = 126


class Refuse(SandboxError):
    """What a hook or a plugin raises to refuse; the text is what the refused one is told.

    Whose call it was gets one too, with the name of the `plugin` and its `reason`.
    """

    def __init__(
        self, message: str, *, hint: str = "", plugin: str = "", reason: str = ""
    ) -> None:  # fmt: skip
        super().__init__(message, hint=hint)
        self.plugin = plugin
        self.reason = reason or message


class PluginFailed(Refuse):
    """A plugin raised something else, died, or did not answer: what it was asked is refused."""


class ProcessError(SandboxError):
    """A process ended with a failure. Carries all of its result."""

    def __init__(
        self, message: str, *, exit_code: int, signal: int | None, stdout: bytes, stderr: bytes
    ) -> None:
        super().__init__(message)
        self.exit_code = exit_code
        self.signal = signal
        self.stdout = stdout
        self.stderr = stderr


class ExecTimeout(ProcessError, TimeoutError):
    """A process ran longer than its `timeout`; its whole group was killed."""


class ProtocolError(SandboxError):
    """Somebody broke the channel protocol. Abstract: raise one of the two subclasses."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        if type(self) is ProtocolError:
            raise TypeError("ProtocolError is abstract: say whose fault it is")
        super().__init__(message, hint=hint)


class LocalProtocolError(ProtocolError):
    """Sandlot itself tried something that the protocol forbids."""


class GuestProtocolError(ProtocolError):
    """The guest sent what the protocol forbids. Its sandbox is ended, nothing else."""
