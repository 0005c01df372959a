"""The machine. Knows nothing of images, policy or agents: memory, processors, disks, a channel.

`base` is the seam, `config` the frozen data it takes, `qemu/` the implementation, `accelerator`
the choice between KVM, HVF and TCG.
"""
