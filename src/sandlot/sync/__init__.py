"""The same API without `await`, for programs that have no event loop.

    from sandlot.sync import Sandbox

    with Sandbox.create(image="demo") as sb:
        print(sb.exec(["uname", "-r"]).text)

One thread runs the event loop for all sandboxes of the program.
"""

from sandlot.sandbox.housekeeping import disk_usage, prune
from sandlot.sync.facade import Sandbox
from sandlot.sync.files import FileReader, Files, Watch
from sandlot.sync.fleets import Fleet
from sandlot.sync.images import ImageStore, build_image
from sandlot.sync.live import Follow, LivePush
from sandlot.sync.network import SandboxNetwork
from sandlot.sync.processes import Attachment, InputStream, Job, OutputStream, Process
from sandlot.sync.remotes import Remote
from sandlot.sync.snapshots import Pool, Snapshot
from sandlot.sync.volumes import SandboxVolumes, Volume

__all__ = [
    "Attachment",
    "FileReader",
    "Files",
    "Fleet",
    "Follow",
    "ImageStore",
    "InputStream",
    "Job",
    "LivePush",
    "OutputStream",
    "Pool",
    "Process",
    "Remote",
    "Sandbox",
    "SandboxNetwork",
    "SandboxVolumes",
    "Snapshot",
    "Volume",
    "Watch",
    "build_image",
    "disk_usage",
    "prune",
]
