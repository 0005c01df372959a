"""A file system in the program's memory: contents, the tree of nodes, the file system, its file."""
