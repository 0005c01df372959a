"""Sandlot: every agent deserves a computer.

Runs untrusted code in microVMs of this process: no daemon, no root, nothing phones home.

General layout, from what users hold down to the wire:

    cli        the command line, one file per group of commands
    sync       the same API without `await`
    fleet      the sandboxes that one Sandboxfile declares: file, plan, execution
    build      images from Dockerfiles
    sandbox    Sandbox, Process, results; the keeper of a detached one, the door to a running one
    plugin     hooks, several plugins in their order, programs as plugins, those that come along
    volume     what is mounted where; named volumes: the store, what they may hold
    files      the files of a sandbox: contents, names, archives, changes
    snapshot   saved machines: snapshots, and the templates that sandboxes begin with
    network    what a sandbox may reach: rules, policy, names, the bytes of DNS and TLS
    filesystem file systems of volumes: the seam, FUSE, host folders, memory
    runtime    what is lent to a sandbox, so that its programs start others
    guest      kernel, initial file system, agent, and the host's side of the channel to it
    image      images: made from Debian packages, written as EROFS, stored by content
    engine     the machine: the seam, QEMU, and the choice of accelerator
    wire       the channel's bytes: frames, streams, messages; sans-io
    state      what is on disk: folders, locks, records
    errors     every error, as one tree
    settings   every environment variable

Imports point downwards only; tests/unit/test_layers.py holds them to it. Public names are the ones
below; they are imported when first used, so that `import sandlot` stays light.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sandlot.errors import (
    BlobChanged,
    BlobNotFound,
    BootError,
    BuildError,
    CertificateRefused,
    CommandNotExecutable,
    CommandNotFound,
    ConfigError,
    ConnectionFailed,
    EngineUnavailable,
    ExecError,
    ExecTimeout,
    FileError,
    FileExists,
    FileForbidden,
    FileIsDirectory,
    FileNotDirectory,
    FileNotFound,
    FleetError,
    GuestProtocolError,
    HostError,
    ImageError,
    ImageNotFound,
    KernelUnavailable,
    KeyMissing,
    LocalProtocolError,
    NameTaken,
    PluginFailed,
    ProcessError,
    ProtocolError,
    Refuse,
    RegistryError,
    RemoteConflict,
    RemoteDamaged,
    RemoteError,
    RemoteFull,
    RemoteNotFound,
    RemoteRefused,
    RemoteUnreachable,
    ResourceError,
    SandboxDied,
    SandboxError,
    SandboxfileError,
    SandboxNotFound,
    SecretUnavailable,
    SnapshotDamaged,
    SnapshotError,
    SnapshotInterrupted,
    SnapshotMismatch,
    SnapshotNotFound,
    StateError,
    VolumeNotFound,
    WrongState,
)

if TYPE_CHECKING:
    import sandlot.sync as sync
    from sandlot.build.api import build_image
    from sandlot.files.extract import Transfer
    from sandlot.files.files import Files
    from sandlot.files.info import FileInfo
    from sandlot.files.streams import FileReader
    from sandlot.files.watch import FileEvent, Watch
    from sandlot.filesystem.base import FileSystem
    from sandlot.filesystem.fsspecfs import FsspecFs, TarFs, ZipFs
    from sandlot.filesystem.host.hostfs import HostFs
    from sandlot.filesystem.memory.memfs import MemFs
    from sandlot.filesystem.overlay.overlayfs import OverlayFs
    from sandlot.filesystem.readonly import ReadOnly
    from sandlot.filesystem.simple import SimpleFileSystem
    from sandlot.filesystem.types import Attr, Context, DirEntry, Entry, Opened, SetAttr, Statistics
    from sandlot.fleet.fleet import Fleet
    from sandlot.fleet.members import FleetMember
    from sandlot.guest.jobs import JobOutput
    from sandlot.guest.process import ExitStatus, InputStream, OutputStream
    from sandlot.image import Image, ImageConfig, ImageStore
    from sandlot.network.flow import Decision, Flow
    from sandlot.network.flows import FlowRecord
    from sandlot.network.hooks import Hooks
    from sandlot.network.policy import Network
    from sandlot.network.published import PublishedPort
    from sandlot.plugin.builtin.audit_log import AuditLog
    from sandlot.plugin.builtin.budget import Budget
    from sandlot.plugin.builtin.command_policy import CommandPolicy
    from sandlot.plugin.builtin.network_monitor import NetworkMonitor
    from sandlot.plugin.builtin.rate_limiter import RateLimiter
    from sandlot.plugin.builtin.recorder import Recorder
    from sandlot.plugin.hooks import (
        ConnectContext,
        DnsContext,
        ExecContext,
        ExecEndContext,
        FlowContext,
        FsContext,
        HookContext,
        HttpRequestContext,
        RefusedContext,
        SecretUseContext,
        SnapshotContext,
        StartContext,
        StopContext,
        TerminalContext,
        TransferContext,
    )
    from sandlot.plugin.process import PluginProcess
    from sandlot.remote.collecting import Collected
    from sandlot.remote.remote import PushedName, Readers, Remote
    from sandlot.remote.versions import Pushed
    from sandlot.runtime.grant import RuntimeAccess
    from sandlot.runtime.lent import Runtime
    from sandlot.sandbox.difference import FileChange, FileState
    from sandlot.sandbox.following import Follow
    from sandlot.sandbox.housekeeping import Leftover, Usage, disk_usage, prune
    from sandlot.sandbox.job import Attachment, Job
    from sandlot.sandbox.listing import SandboxInfo
    from sandlot.sandbox.live import LivePush
    from sandlot.sandbox.log import LogEntry
    from sandlot.sandbox.metrics import Metrics
    from sandlot.sandbox.network import SandboxNetwork
    from sandlot.sandbox.pool import Pool
    from sandlot.sandbox.process import Process
    from sandlot.sandbox.result import ExecResult
    from sandlot.sandbox.sandbox import Sandbox
    from sandlot.sandbox.snapshots import Snapshot
    from sandlot.secrets.secret import Secret
    from sandlot.snapshot.usage import SnapshotUsage
    from sandlot.state.events import Event
    from sandlot.volume.declared import NamedVolume
    from sandlot.volume.volume import Volume

__version__ = "0.1.0"

_LAZY = {
    "SandboxNetwork": "sandlot.sandbox.network",
    "PublishedPort": "sandlot.network.published",
    "Hooks": "sandlot.network.hooks",
    "HostFs": "sandlot.filesystem.host.hostfs",
    "FlowRecord": "sandlot.network.flows",
    "Attachment": "sandlot.sandbox.job",
    "Decision": "sandlot.network.flow",
    "Event": "sandlot.state.events",
    "ExecResult": "sandlot.sandbox.result",
    "ExitStatus": "sandlot.guest.process",
    "FileEvent": "sandlot.files.watch",
    "FileInfo": "sandlot.files.info",
    "FileReader": "sandlot.files.streams",
    "Files": "sandlot.files.files",
    "Fleet": "sandlot.fleet.fleet",
    "FleetMember": "sandlot.fleet.members",
    "Flow": "sandlot.network.flow",
    "Follow": "sandlot.sandbox.following",
    "Image": "sandlot.image",
    "ImageConfig": "sandlot.image",
    "ImageStore": "sandlot.image",
    "InputStream": "sandlot.guest.process",
    "Job": "sandlot.sandbox.job",
    "JobOutput": "sandlot.guest.jobs",
    "Leftover": "sandlot.sandbox.housekeeping",
    "LivePush": "sandlot.sandbox.live",
    "LogEntry": "sandlot.sandbox.log",
    "Metrics": "sandlot.sandbox.metrics",
    "NamedVolume": "sandlot.volume.declared",
    "OutputStream": "sandlot.guest.process",
    "Network": "sandlot.network.policy",
    "Pool": "sandlot.sandbox.pool",
    "Process": "sandlot.sandbox.process",
    "Runtime": "sandlot.runtime.lent",
    "RuntimeAccess": "sandlot.runtime.grant",
    "Sandbox": "sandlot.sandbox.sandbox",
    "SandboxInfo": "sandlot.sandbox.listing",
    "Remote": "sandlot.remote.remote",
    "PushedName": "sandlot.remote.remote",
    "Readers": "sandlot.remote.remote",
    "Pushed": "sandlot.remote.versions",
    "Collected": "sandlot.remote.collecting",
    "Secret": "sandlot.secrets.secret",
    "FileChange": "sandlot.sandbox.difference",
    "FileState": "sandlot.sandbox.difference",
    "Snapshot": "sandlot.sandbox.snapshots",
    "SnapshotUsage": "sandlot.snapshot.usage",
    "Transfer": "sandlot.files.extract",
    "Volume": "sandlot.volume.volume",
    "Watch": "sandlot.files.watch",
    "Usage": "sandlot.sandbox.housekeeping",
    "disk_usage": "sandlot.sandbox.housekeeping",
    "prune": "sandlot.sandbox.housekeeping",
    "build_image": "sandlot.build.api",
    "FileSystem": "sandlot.filesystem.base",
    "MemFs": "sandlot.filesystem.memory.memfs",
    "OverlayFs": "sandlot.filesystem.overlay.overlayfs",
    "ReadOnly": "sandlot.filesystem.readonly",
    "SimpleFileSystem": "sandlot.filesystem.simple",
    "FsspecFs": "sandlot.filesystem.fsspecfs",
    "ZipFs": "sandlot.filesystem.fsspecfs",
    "TarFs": "sandlot.filesystem.fsspecfs",
    "Context": "sandlot.filesystem.types",
    "Attr": "sandlot.filesystem.types",
    "Entry": "sandlot.filesystem.types",
    "DirEntry": "sandlot.filesystem.types",
    "Opened": "sandlot.filesystem.types",
    "SetAttr": "sandlot.filesystem.types",
    "Statistics": "sandlot.filesystem.types",
    "AuditLog": "sandlot.plugin.builtin.audit_log",
    "Budget": "sandlot.plugin.builtin.budget",
    "CommandPolicy": "sandlot.plugin.builtin.command_policy",
    "NetworkMonitor": "sandlot.plugin.builtin.network_monitor",
    "RateLimiter": "sandlot.plugin.builtin.rate_limiter",
    "Recorder": "sandlot.plugin.builtin.recorder",
    "PluginProcess": "sandlot.plugin.process",
    "HookContext": "sandlot.plugin.hooks",
    "StartContext": "sandlot.plugin.hooks",
    "StopContext": "sandlot.plugin.hooks",
    "ExecContext": "sandlot.plugin.hooks",
    "ExecEndContext": "sandlot.plugin.hooks",
    "TerminalContext": "sandlot.plugin.hooks",
    "ConnectContext": "sandlot.plugin.hooks",
    "DnsContext": "sandlot.plugin.hooks",
    "HttpRequestContext": "sandlot.plugin.hooks",
    "SecretUseContext": "sandlot.plugin.hooks",
    "FlowContext": "sandlot.plugin.hooks",
    "TransferContext": "sandlot.plugin.hooks",
    "FsContext": "sandlot.plugin.hooks",
    "SnapshotContext": "sandlot.plugin.hooks",
    "RefusedContext": "sandlot.plugin.hooks",
}

__all__ = [
    "Attachment",
    "Attr",
    "AuditLog",
    "BlobChanged",
    "BlobNotFound",
    "BootError",
    "Budget",
    "BuildError",
    "CertificateRefused",
    "Collected",
    "CommandNotExecutable",
    "CommandNotFound",
    "CommandPolicy",
    "ConfigError",
    "ConnectContext",
    "ConnectionFailed",
    "Context",
    "Decision",
    "DirEntry",
    "DnsContext",
    "EngineUnavailable",
    "Entry",
    "Event",
    "ExecContext",
    "ExecEndContext",
    "ExecError",
    "ExecResult",
    "ExecTimeout",
    "ExitStatus",
    "FileChange",
    "FileError",
    "FileEvent",
    "FileExists",
    "FileForbidden",
    "FileInfo",
    "FileIsDirectory",
    "FileNotDirectory",
    "FileNotFound",
    "FileReader",
    "FileState",
    "FileSystem",
    "Files",
    "Fleet",
    "FleetError",
    "FleetMember",
    "Flow",
    "FlowContext",
    "FlowRecord",
    "Follow",
    "FsContext",
    "FsspecFs",
    "GuestProtocolError",
    "HookContext",
    "Hooks",
    "HostError",
    "HostFs",
    "HttpRequestContext",
    "Image",
    "ImageConfig",
    "ImageError",
    "ImageNotFound",
    "ImageStore",
    "InputStream",
    "Job",
    "JobOutput",
    "KernelUnavailable",
    "KeyMissing",
    "Leftover",
    "LivePush",
    "LocalProtocolError",
    "LogEntry",
    "MemFs",
    "Metrics",
    "NameTaken",
    "NamedVolume",
    "Network",
    "NetworkMonitor",
    "Opened",
    "OutputStream",
    "OverlayFs",
    "PluginFailed",
    "PluginProcess",
    "Pool",
    "Process",
    "ProcessError",
    "ProtocolError",
    "PublishedPort",
    "Pushed",
    "PushedName",
    "RateLimiter",
    "ReadOnly",
    "Readers",
    "Recorder",
    "Refuse",
    "RefusedContext",
    "RegistryError",
    "Remote",
    "RemoteConflict",
    "RemoteDamaged",
    "RemoteError",
    "RemoteFull",
    "RemoteNotFound",
    "RemoteRefused",
    "RemoteUnreachable",
    "ResourceError",
    "Runtime",
    "RuntimeAccess",
    "Sandbox",
    "SandboxDied",
    "SandboxError",
    "SandboxInfo",
    "SandboxNetwork",
    "SandboxNotFound",
    "SandboxfileError",
    "Secret",
    "SecretUnavailable",
    "SecretUseContext",
    "SetAttr",
    "SimpleFileSystem",
    "Snapshot",
    "SnapshotContext",
    "SnapshotDamaged",
    "SnapshotError",
    "SnapshotInterrupted",
    "SnapshotMismatch",
    "SnapshotNotFound",
    "SnapshotUsage",
    "StartContext",
    "StateError",
    "Statistics",
    "StopContext",
    "TarFs",
    "TerminalContext",
    "Transfer",
    "TransferContext",
    "Usage",
    "Volume",
    "VolumeNotFound",
    "Watch",
    "WrongState",
    "ZipFs",
    "build_image",
    "disk_usage",
    "prune",
    "sync",
]


def __getattr__(name: str) -> Any:
    import importlib

    if name == "sync":
        return importlib.import_module("sandlot.sync")
    if name in _LAZY:
        value = getattr(importlib.import_module(_LAZY[name]), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'sandlot' has no attribute {name!r}")
