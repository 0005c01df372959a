"""The kernel's FUSE messages: parsing requests, packing answers and notifications. Pure.

Follows include/uapi/linux/fuse.h, protocol 7.31 to 7.38 (Linux 5.10 and later). All numbers are in
the order of the machine's bytes, which is little-endian on every architecture that is supported.
"""
