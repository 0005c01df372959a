"""TLS that the gateway ends and begins anew: a sandbox's authority, and trust in upstreams."""
