"""HTTP/1.1 and HTTP/2 between a guest and an upstream, read strictly and written anew, sans-io.

Both exchanges (`h1`, `h2`) have the same seam, described in `events`.
"""
