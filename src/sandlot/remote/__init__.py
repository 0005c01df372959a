"""Where pushed things are kept, and how they get there.

store       the seam: `Blob`, `BlobStore`, what a key is
tree        a store in a tree of files: what is put, and what is put conditionally
folder      a folder, or a network drive
sftp        a folder behind SSH
s3          S3 and what speaks its protocol
oci         an OCI registry: artifacts, tags
"""
