"""Files in a sandbox, from the host: `Files` is what users hold as `sb.files`.

`archive` reads what a guest sends as an archive, sans-io; `extract` writes it to the host's disk by
folder descriptors; `pack` makes an archive of the host's files; `requests` speaks to the agent.
"""
