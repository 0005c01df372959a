"""Fleets: the sandboxes that one Sandboxfile declares.

document     YAML as a tree whose every value knows its place; variables are put in
models       what may stand in a Sandboxfile, and its JSON Schema
problems     everything that is wrong with a file, each with its place and the nearest right word
compose      a compose file as a Sandboxfile
reading      files to a `FleetSpec`: extends, profiles, env files, references
spec         what the members are, resolved; pure data
planning     what has to be done to come from what is to what is wanted; pure
state        what is: the sandboxes of this user that belong to a fleet
making       from a member to a running sandbox
health       whether a member works
executing    does what was planned, in parallel as far as dependencies allow
fleet        `Fleet`, as users hold it
"""

DEFAULT_FILES = ("Sandboxfile.yaml", "Sandboxfile")
