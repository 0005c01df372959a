"""The same API without `await`, for programs that have no event loop.

    from sandlot.sync import Sandbox

    with Sandbox.create(image="demo") as sb:
        print(sb.exec(["uname", "-r"]).text)

One thread runs the event loop for all sandboxes of the program.
"""

from sandlot.sync.facade import InputStream, OutputStream, Process, Sandbox

__all__ = ["InputStream", "OutputStream", "Process", "Sandbox"]
