"""`HostFs`: a folder or a file of the host as a volume, served by descriptors and never by paths."""

from sandlot.filesystem.host.hostfs import HostFs

__all__ = ["HostFs"]
