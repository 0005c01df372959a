"""What goes into a guest (kernel, initial file system, agent) and how the host talks to it.

`kernel`, `cpio`, `initramfs` and `agent` make what is booted; `channel` owns the socket of a
session, `session` makes the agent's calls, `process` is one running program.
"""
