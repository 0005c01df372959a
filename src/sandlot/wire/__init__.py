"""The channel between host and guest, sans-io. The specification is `protocol/README.md`."""
