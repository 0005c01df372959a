"""The engine on QEMU: `argv` is pure, `process` starts and ends it, `monitor` speaks QMP,
`probe` finds out which accelerator really works, `engine` joins them."""
