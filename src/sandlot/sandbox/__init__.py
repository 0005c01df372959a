"""What users hold: `Sandbox`, `Process`, results. `host` is what one program shares between its
sandboxes, `owned` a machine that this program runs, `service` its door for other programs,
`remote` the other side of that door, `keeper` the process that runs a detached sandbox."""
