"""Where pushed things are kept, and how they get there.

store       the seam: `Blob`, `BlobStore`, what a key is
address     where a remote is, as people write it (pure)
configured  the remotes that have names
opening     a store from its address
patience    trying again
limited     no more bytes a second than allowed
tree        a store in a tree of files: what is put, and what is replaced
folder      a folder, or a network drive
sftp        a folder behind SSH
s3, aws     S3 and what speaks its protocol; credentials as AWS's tools find them
oci         an OCI registry
artifact    how a blob looks there: tag and manifest (pure)
ballots     who was first, where there is no conditional put (pure)
"""
