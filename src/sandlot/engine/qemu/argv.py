"""`MachineConfig` to QEMU's command line. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sandlot.engine.config import DISK_OFFSET, MIB, Disk, MachineConfig

# pc-i440fx: memory that does not fit below 3.5 GiB is split at 3 GiB and goes on at 4 GiB.
# Source: QEMU hw/i386/pc_piix.c, pc_init1 (gigabyte alignment).
_LOW_LIMIT = 0xE000_0000
_LOW_SPLIT = 0xC000_0000
_HIGH_BASE = 0x1_0000_0000


@dataclass(frozen=True)
class Descriptors:
    """The inherited file descriptors, by number. `window` is None where there is no window.

    `script` is a second monitor whose commands lie ready in its socket before QEMU starts.
    """

    channel: int
    monitor: int
    script: int
    console: int
    state: int
    window: int | None = None


def window_address(config: MachineConfig, machine: str) -> int | None:
    """Where the guest finds the window: behind its memory. Only x86-64 has one."""
    if machine != "x86_64" or not config.window:
        return None
    total = config.memory + config.window
    if total < _LOW_LIMIT:
        return config.memory
    # The tail of the last node always lies above 4 GiB then.
    return _HIGH_BASE + (total - _LOW_SPLIT) - config.window


def cpu_model(accelerator: str, machine: str) -> str:
    """The processor that the guest sees.

    TCG executes `rep movsb` byte by byte but `rep movsq` in words: without the two feature bits
    the kernel copies with the latter, five times faster. Without SMAP and five-level page tables
    copies and page faults get another fifth (docs/design/0003-tcg.md).
    """
    if accelerator != "tcg":
        return "host"
    return "max,-erms,-fsrm,-smap,-la57" if machine == "x86_64" else "max"


def build_argv(
    config: MachineConfig,
    *,
    binary: str,
    machine: str,
    accelerator: str,
    descriptors: Descriptors,
    restore: bool,
    cpu: str | None = None,
    guarded: bool = False,
) -> list[str]:
    """The whole command line.

    `guarded` says that the launcher keeps holes out of all that lies below DISK_OFFSET: only then
    may the machine have the device by which the guest tells of memory that it has freed.

    With `restore` the device state is read from `descriptors.state` and memory is private to the
    process; otherwise the kernel is booted on memory that is shared with its file.
    """
    memory_mib, window_mib = config.memory // MIB, config.window // MIB
    address = window_address(config, machine)
    share = "off" if restore else "on"
    argv = [
        binary,
        "-nodefaults", "-no-user-config", "-no-reboot", "-display", "none",
        "-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny",
        *_machine(machine, accelerator),
        "-cpu", cpu or cpu_model(accelerator, machine),
        "-smp", str(config.cpus),
        "-object",
        _memory("ram", memory_mib, _quoted(config.ram), share),
    ]  # fmt: skip
    if address is not None and descriptors.window is not None:
        argv += [
            "-m", f"{memory_mib + window_mib}M",
            "-object",
            _memory("window", window_mib, f"/proc/self/fd/{descriptors.window}", "on"),
            "-numa", f"node,cpus=0-{config.cpus - 1},memdev=ram",
            "-numa", "node,memdev=window",
        ]  # fmt: skip
    else:
        argv += ["-m", f"{memory_mib}M", "-numa", "node,memdev=ram"]
    argv += [
        "-chardev", f"socket,id=monitor,fd={descriptors.monitor}",
        "-mon", "chardev=monitor,mode=control",
        "-chardev", f"socket,id=script,fd={descriptors.script}",
        "-mon", "chardev=script,mode=control",
        "-chardev", f"socket,id=console,fd={descriptors.console}",
        "-serial", "chardev:console",
        "-chardev", f"socket,id=channel,fd={descriptors.channel}",
        "-device", "virtio-serial-pci,id=serial,max_ports=2",
        "-device", "virtserialport,chardev=channel,name=sandlot.0",
    ]  # fmt: skip
    for index, disk in enumerate(config.disks):
        mode = "read-only=on" if disk.readonly else "read-only=off,discard=unmap"
        if disk.path is None:
            nothing = f"driver=null-co,node-name=d{index},size={disk.size},read-zeroes=on,{mode}"
            argv += ["-blockdev", nothing]
        elif disk.layers:
            argv += _layered(index, disk, config.served)
        else:
            file = _file(f"f{index}", disk.path, config.served)
            node = f"driver=raw,node-name=d{index},file=f{index},size={disk.size}"
            node += f",offset={disk.offset}"
            if disk.concatenated and disk.path not in config.served:
                node = f"driver=vmdk,node-name=d{index},file=f{index}"
            argv += ["-blockdev", f"{file},{mode}", "-blockdev", f"{node},{mode}"]
        argv += ["-device", f"virtio-blk-pci,drive=d{index},id=disk{index},{_TOLD}"]
    if guarded and config.memory <= DISK_OFFSET:
        argv += ["-device", "virtio-balloon-pci,id=balloon,free-page-reporting=on"]
    # The first: a state saved on one command line is else refused on another that differs in names.
    # The second: a state saved while paused comes up running.
    argv += ["-global", "migration.send-configuration=off"]
    argv += ["-global", "migration.store-global-state=off"]
    if restore:
        argv += ["-incoming", "defer"]
    else:
        argv += ["-kernel", str(config.kernel), "-initrd", str(config.initrd)]
        argv += ["-append", config.cmdline]
    return argv


# What fails on the host is told to the guest; QEMU would else stop the machine when the host's disk
# is full, and nobody would let it go on.
_TOLD = "werror=report,rerror=report"


def _file(name: str, path: Path, served: Mapping[Path, int]) -> str:
    """A node with the bytes of a file."""
    if path in served:
        return f"driver=nbd,node-name={name},server.type=fd,server.str={served[path]}"
    return f"driver=file,node-name={name},filename={_quoted(path)},locking=off"


def _layered(index: int, disk: Disk, served: Mapping[Path, int]) -> list[str]:
    """An overlay, over a plain file and the overlays between."""
    argv: list[str] = []
    below = ""
    for level, path in enumerate((*disk.layers, disk.path)):
        assert path is not None
        top = level == len(disk.layers)
        mode = "read-only=off,discard=unmap" if top and not disk.readonly else "read-only=on"
        name = f"d{index}" if top else f"d{index}l{level}"
        argv += ["-blockdev", f"{_file(f'{name}f', path, served)},{mode}"]
        if level == 0:
            node = f"driver=raw,node-name={name},file={name}f,offset={disk.offset}"
            argv += ["-blockdev", f"{node},{mode}"]
        else:
            node = f"driver=raw,node-name={name}r,file={name}f,offset={disk.offset},{mode}"
            over = f"driver=qcow2,node-name={name},file={name}r,backing={below},{mode}"
            argv += ["-blockdev", node, "-blockdev", over]
        below = name
    return argv


Node = dict[str, Any]


def from_files(config: MachineConfig) -> list[tuple[Node, str, list[Node]]]:
    """How a running machine reads files from the disk that were served to it: for each, the node
    above it as it is to be, the name of the node that goes, and those that come in its place."""
    readonly = {"read-only": True}
    found: list[tuple[Node, str, list[Node]]] = []

    def file(name: str, path: Path) -> Node:
        plain = {"driver": "file", "node-name": name, "filename": str(path), "locking": "off"}
        return plain | readonly

    for index, disk in enumerate(config.disks):
        if disk.path in config.served and disk.path is not None:
            name = f"d{index}"
            above = {"driver": "raw", "node-name": name, "file": f"{name}v", "size": disk.size}
            device = {"driver": "vmdk", "node-name": f"{name}v", "file": f"{name}w", **readonly}
            found.append((above | readonly, f"f{index}", [file(f"{name}w", disk.path), device]))
        for level, path in enumerate(disk.layers):
            if path in config.served:
                name = f"d{index}l{level}"
                raw = name if level == 0 else f"{name}r"
                above = {"driver": "raw", "node-name": raw, "file": f"{name}w"}
                above |= {"offset": disk.offset, **readonly}
                found.append((above, f"{name}f", [file(f"{name}w", path)]))
    return found


def _quoted(path: Path) -> str:
    """A path inside an option list, where a comma is doubled."""
    return str(path).replace(",", ",,")


def _memory(name: str, size_mib: int, path: str, share: str) -> str:
    return f"memory-backend-file,id={name},size={size_mib}M,mem-path={path},share={share}"


IGNORE_SHARED = {"capabilities": [{"capability": "x-ignore-shared", "state": True}]}


def restore_script(state: int) -> bytes:
    """The QMP commands that load the device state from a descriptor and let the machine run.

    They are written before QEMU starts, so that a restore waits for no answer.
    """
    commands = [
        {"execute": "qmp_capabilities"},
        {"execute": "migrate-set-capabilities", "arguments": IGNORE_SHARED},
        {"execute": "migrate-incoming", "arguments": {"uri": f"fd:{state}"}},
    ]
    return b"".join(json.dumps(command).encode() + b"\n" for command in commands)


def _machine(machine: str, accelerator: str) -> list[str]:
    if machine == "aarch64":
        return ["-machine", "virt,gic-version=max,suppress-vmdesc=on", "-accel", accelerator]
    accel = "tcg,tb-size=128" if accelerator == "tcg" else accelerator
    return ["-machine", "pc,vmport=off,suppress-vmdesc=on", "-accel", accel]
