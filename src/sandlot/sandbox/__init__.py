"""What users hold: `Sandbox`, `Process`, results. `host` is what one program shares between its
sandboxes, `owned` a machine that this program runs, `door` how other programs reach it, `keeper`
the process that runs a detached sandbox, `lifecycle` where all of it meets."""
