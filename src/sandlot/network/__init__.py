"""The network gateway: what a sandbox may reach, by which name, and what became of it.

Everything that parses or decides is pure: bytes and times come in as arguments."""
