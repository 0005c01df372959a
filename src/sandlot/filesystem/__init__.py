"""File systems of sandboxes: the seam `FileSystem`, and what answers the guest's FUSE requests."""
