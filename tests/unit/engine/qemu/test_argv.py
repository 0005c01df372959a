"""The command line, word for word."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest

from sandlot.engine.config import DISK_OFFSET, GIB, MIB, Disk, MachineConfig
from sandlot.engine.qemu.argv import (
    Descriptors,
    build_argv,
    cpu_model,
    from_files,
    restore_script,
    window_address,
)

DESCRIPTORS = Descriptors(channel=3, monitor=4, script=5, console=6, state=7, window=8)


def config(memory: int = 512 * MIB, **changes: object) -> MachineConfig:
    values: dict[str, object] = {
        "memory": memory, "cpus": 2, "ram": Path("/t/ram"), "kernel": Path("/k/vmlinuz"),
        "initrd": Path("/t/initrd"), "cmdline": "quiet",
        "disks": (
            Disk(path=Path("/i/a.erofs"), readonly=True),
            Disk(path=Path("/s/disk.img"), readonly=False, size=4 * GIB, offset=DISK_OFFSET),
        ),
    }  # fmt: skip
    return MachineConfig(**{**values, **changes})  # type: ignore[arg-type]


def argv(restore: bool, machine: str = "x86_64", accelerator: str = "tcg") -> list[str]:
    return build_argv(
        config(), binary="qemu", machine=machine, accelerator=accelerator,
        descriptors=DESCRIPTORS, restore=restore,
    )  # fmt: skip


def value(words: list[str], flag: str) -> list[str]:
    """What follows each `flag`."""
    return [after for word, after in itertools.pairwise(words) if word == flag]


COMMON = """\
qemu -nodefaults -no-user-config -no-reboot -display none
-sandbox on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny
-machine pc,vmport=off,suppress-vmdesc=on -accel tcg,tb-size=128
-cpu max,-erms,-fsrm,-smap,-la57 -smp 2
-object memory-backend-file,id=ram,size=512M,mem-path=/t/ram,share={share}
-m 528M
-object memory-backend-file,id=window,size=16M,mem-path=/proc/self/fd/8,share=on
-numa node,cpus=0-1,memdev=ram -numa node,memdev=window
-chardev socket,id=monitor,fd=4 -mon chardev=monitor,mode=control
-chardev socket,id=script,fd=5 -mon chardev=script,mode=control
-chardev socket,id=console,fd=6 -serial chardev:console
-chardev socket,id=channel,fd=3
-device virtio-serial-pci,id=serial,max_ports=2
-device virtserialport,chardev=channel,name=sandlot.0
-blockdev driver=file,node-name=f0,filename=/i/a.erofs,locking=off,read-only=on
-blockdev driver=raw,node-name=d0,file=f0,size=68719476736,offset=0,read-only=on
-device virtio-blk-pci,drive=d0,id=disk0,werror=report,rerror=report
-blockdev driver=file,node-name=f1,filename=/s/disk.img,locking=off,read-only=off,discard=unmap
-blockdev driver=raw,node-name=d1,file=f1,size=4294967296,offset=1099511627776,read-only=off,discard=unmap
-device virtio-blk-pci,drive=d1,id=disk1,werror=report,rerror=report
-global migration.send-configuration=off -global migration.store-global-state=off
"""


def test_a_boot_word_for_word() -> None:
    expected = COMMON.format(share="on") + "-kernel /k/vmlinuz -initrd /t/initrd -append quiet"
    assert argv(restore=False) == expected.split()


def test_a_restore_word_for_word() -> None:
    expected = COMMON.format(share="off") + "-incoming defer"
    assert argv(restore=True) == expected.split()


def test_freed_memory_is_told_only_where_the_launcher_guards_the_template() -> None:
    def words(guarded: bool, memory: int = 512 * MIB) -> list[str]:
        return build_argv(
            config(memory), binary="qemu", machine="x86_64", accelerator="kvm",
            descriptors=DESCRIPTORS, restore=True, guarded=guarded,
        )  # fmt: skip

    assert "virtio-balloon-pci,id=balloon,free-page-reporting=on" in words(True)
    assert not [word for word in words(False) if "balloon" in word]
    assert not [word for word in words(True, DISK_OFFSET + MIB) if "balloon" in word]


def test_arm_has_no_window_and_its_own_machine() -> None:
    words = argv(restore=False, machine="aarch64")
    assert value(words, "-machine") == ["virt,gic-version=max,suppress-vmdesc=on"]
    assert value(words, "-m") == ["512M"]
    assert value(words, "-numa") == ["node,memdev=ram"]
    assert not [word for word in words if "window" in word]


@pytest.mark.parametrize(
    ("memory", "address"),
    [
        (512 * MIB, 512 * MIB),
        (3568 * MIB - 16 * MIB, 3552 * MIB),  # with the window just below 3.5 GiB
        (3584 * MIB - 16 * MIB, 4 * GIB + 512 * MIB - 16 * MIB),  # just at it: split at 3 GiB
        (4 * GIB, 4 * GIB + GIB),
        (16 * GIB, 4 * GIB + 13 * GIB),
    ],
)
def test_the_window_lies_behind_the_memory(memory: int, address: int) -> None:
    assert window_address(config(memory), "x86_64") == address


def test_there_may_be_no_window() -> None:
    assert window_address(config(), "aarch64") is None
    assert window_address(config(window=0), "x86_64") is None


def test_what_is_not_here_yet_is_read_over_sockets_until_it_is() -> None:
    image, layers = Path("/i/device.vmdk"), (Path("/s/a"), Path("/s/b"))
    disks = (
        Disk(path=image, readonly=True, concatenated=True),
        Disk(path=Path("/s/top"), readonly=False, size=GIB, offset=DISK_OFFSET, layers=layers),
    )
    given = config(disks=disks, served={image: 20, layers[0]: 21, layers[1]: 22})
    words = build_argv(
        given, binary="qemu", machine="x86_64", accelerator="tcg", descriptors=DESCRIPTORS,
        restore=True,
    )  # fmt: skip
    nodes = value(words, "-blockdev")
    assert nodes[:2] == [
        "driver=nbd,node-name=f0,server.type=fd,server.str=20,read-only=on",
        f"driver=raw,node-name=d0,file=f0,size={64 * GIB},offset=0,read-only=on",
    ]
    assert nodes[2] == "driver=nbd,node-name=d1l0f,server.type=fd,server.str=21,read-only=on"
    assert nodes[4] == "driver=nbd,node-name=d1l1f,server.type=fd,server.str=22,read-only=on"
    assert "filename=/s/top" in nodes[7]
    changes = from_files(given)
    assert [(above["node-name"], old) for above, old, _ in changes] == [
        ("d0", "f0"), ("d1l0", "d1l0f"), ("d1l1r", "d1l1f")
    ]  # fmt: skip
    assert [new[-1]["driver"] for _, _, new in changes] == ["vmdk", "file", "file"]
    assert all(node["read-only"] for above, _, new in changes for node in (above, *new))
    # The disk that is written to is read from the disk, and so is all where nothing is served.
    assert from_files(config(disks=disks)) == []


@pytest.mark.parametrize(
    ("accelerator", "machine", "model"),
    [
        ("kvm", "x86_64", "host"),
        ("hvf", "aarch64", "host"),
        ("kvm", "aarch64", "host"),
        ("tcg", "aarch64", "max"),
        ("tcg", "x86_64", "max,-erms,-fsrm,-smap,-la57"),
    ],
)
def test_the_processor(accelerator: str, machine: str, model: str) -> None:
    assert cpu_model(accelerator, machine) == model


def test_a_given_processor_wins() -> None:
    words = build_argv(
        config(), binary="qemu", machine="x86_64", accelerator="kvm", descriptors=DESCRIPTORS,
        restore=True, cpu="Skylake",
    )  # fmt: skip
    assert value(words, "-cpu") == ["Skylake"]
    assert value(words, "-accel") == ["kvm"]


def test_the_restore_script_is_three_commands_on_lines() -> None:
    script = restore_script(9)
    assert script.endswith(b"\n")
    commands = [json.loads(line) for line in script.splitlines()]
    assert [c["execute"] for c in commands] == [
        "qmp_capabilities", "migrate-set-capabilities", "migrate-incoming",
    ]  # fmt: skip
    assert commands[1]["arguments"]["capabilities"][0]["capability"] == "x-ignore-shared"
    assert commands[2]["arguments"] == {"uri": "fd:9"}
