"""Readable names for sandboxes that were given none."""

from __future__ import annotations

_FIRST = (
    "amber", "bold", "brisk", "calm", "clever", "copper", "coral", "crisp", "dusty", "eager",
    "early", "fair", "fleet", "gentle", "golden", "green", "happy", "honest", "ivory", "jolly",
    "keen", "kind", "light", "lively", "lucky", "mellow", "merry", "misty", "modest", "noble",
    "olive", "patient", "plain", "proud", "quick", "quiet", "rapid", "ready", "rosy", "sandy",
    "sharp", "silver", "smart", "snowy", "solid", "steady", "still", "sunny", "swift", "tidy",
    "vivid", "warm", "wise", "witty",
)  # fmt: skip
_SECOND = (
    "badger", "beaver", "bison", "crane", "dove", "falcon", "ferret", "finch", "fox", "gecko",
    "goose", "hare", "hawk", "heron", "ibis", "jay", "koala", "lark", "lemur", "lynx", "magpie",
    "marten", "mole", "moose", "newt", "otter", "owl", "panda", "perch", "pika", "plover", "puffin",
    "quail", "rabbit", "raven", "robin", "salmon", "seal", "shrew", "sparrow", "stoat", "stork",
    "swan", "tern", "toad", "trout", "vole", "wolf", "wombat", "wren",
)  # fmt: skip


def readable_name() -> str:
    """Such as `quiet-otter-4f2a`."""
    import secrets  # here: its cryptography is a tenth of what an `exec` imports of its own

    return f"{secrets.choice(_FIRST)}-{secrets.choice(_SECOND)}-{secrets.token_hex(2)}"
