"""Images from registries, by the OCI distribution specification.

headers        what registries say in headers (pure)
credentials    Docker's and Podman's files of credentials (pure), and where they lie
keychain       credential helpers: programs that hold credentials
registries     mirrors, plain HTTP, certificates: what the user has set
transport      HTTP: the one file with sockets
login          from a challenge to an Authorization header
client         manifests and blobs from one registry and its mirrors
downloads      blobs under way: resumed, verified, downloaded once
pull           all of it in order
"""
