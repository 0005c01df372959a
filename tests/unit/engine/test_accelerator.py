"""Which accelerator is taken, and what is said of the others."""

from __future__ import annotations

from pathlib import Path

import pytest

from sandlot.engine import accelerator
from sandlot.engine.accelerator import candidates, choose, condemn, decide, refuse_kvm
from sandlot.engine.qemu.probe import Measurement

TCG = Measurement(2.5)
NONE = {"kvm": "no /dev/kvm"}


@pytest.mark.parametrize(
    ("measured", "refused", "chosen", "words"),
    [
        ({"kvm": Measurement(0.3), "tcg": TCG}, {}, "kvm", "works"),
        ({"kvm": Measurement(240.0), "tcg": TCG}, {}, "tcg", "present but emulated"),
        ({"kvm": Measurement(8.0), "tcg": Measurement(9.0)}, {}, "kvm", "works"),
        ({"kvm": Measurement(4.0), "tcg": TCG}, {}, "kvm", "works"),
        ({"kvm": Measurement(None, "boom"), "tcg": TCG}, {}, "tcg", "present but broken: boom"),
        ({"tcg": TCG}, {"kvm": "no permission"}, "tcg", "no permission"),
        ({"tcg": Measurement(None, "bad")}, NONE, "", "no /dev/kvm"),
    ],
)
def test_decide(
    measured: dict[str, Measurement], refused: dict[str, str], chosen: str, words: str
) -> None:
    choice = decide(measured, refused, ("kvm", "tcg"))
    assert choice.name == chosen
    assert [v.name for v in choice.verdicts] == ["kvm", "tcg"]
    assert words in choice.verdicts[0].reason


def test_hvf_is_decided_as_kvm_is() -> None:
    choice = decide({"hvf": Measurement(0.4), "tcg": TCG}, {}, ("hvf", "tcg"))
    assert choice.name == "hvf"


def test_candidates_end_with_emulation() -> None:
    assert candidates("linux") == ("kvm", "tcg")
    assert candidates("darwin") == ("hvf", "tcg")
    assert candidates("freebsd14") == ("tcg",)


def test_kvm_is_refused_with_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    device = tmp_path / "kvm"
    assert "load the kvm module" in (refuse_kvm(device) or "")
    device.touch()
    assert refuse_kvm(device) is None
    monkeypatch.setattr("sandlot.engine.accelerator.os.access", lambda *_: False)
    assert "usermod -aG kvm" in (refuse_kvm(device) or "")


class Probe:
    """Counts what is measured. KVM works in 0.3 ns, TCG in 2.5."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def __call__(self, name: str) -> Measurement:
        self.asked.append(name)
        return Measurement({"kvm": 0.3, "tcg": 2.5}[name])


@pytest.fixture
def permission(monkeypatch: pytest.MonkeyPatch) -> list[str | None]:
    """What `refuse_kvm` says: the last one."""
    said: list[str | None] = [None]
    monkeypatch.setattr(accelerator, "refuse_kvm", lambda: said[-1])
    monkeypatch.setattr("sandlot.engine.accelerator.sys.platform", "linux")
    monkeypatch.setattr(accelerator, "boot_identity", lambda: "boot-1")
    return said


async def test_a_verdict_is_remembered(tmp_path: Path, permission: list[str | None]) -> None:
    probe, file = Probe(), tmp_path / "cache" / "accelerator.json"
    first = await choose(probe, remembered=file, subject="9.0")
    again = await choose(probe, remembered=file, subject="9.0")
    assert first == again
    assert first.name == "kvm"
    assert probe.asked == ["kvm", "tcg"]


async def test_another_monitor_or_boot_is_probed_anew(
    tmp_path: Path, permission: list[str | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    probe, file = Probe(), tmp_path / "a.json"
    await choose(probe, remembered=file, subject="9.0")
    await choose(probe, remembered=file, subject="9.1")
    assert len(probe.asked) == 4
    monkeypatch.setattr(accelerator, "boot_identity", lambda: "boot-2")
    await choose(probe, remembered=file, subject="9.1")
    assert len(probe.asked) == 6


async def test_permission_is_looked_at_each_time(
    tmp_path: Path, permission: list[str | None]
) -> None:
    probe, file = Probe(), tmp_path / "a.json"
    permission.append("no permission")
    assert (await choose(probe, remembered=file, subject="9")).name == "tcg"
    assert probe.asked == ["tcg"]
    permission.append(None)
    assert (await choose(probe, remembered=file, subject="9")).name == "kvm"


@pytest.mark.parametrize("damage", ["", "[]", '{"key": 1}', "\0"])
async def test_a_damaged_memory_is_no_memory(
    tmp_path: Path, permission: list[str | None], damage: str
) -> None:
    file = tmp_path / "a.json"
    file.write_text(damage)
    assert (await choose(Probe(), remembered=file, subject="9")).name == "kvm"


async def test_forced_is_taken_unseen(tmp_path: Path) -> None:
    probe = Probe()
    choice = await choose(probe, remembered=tmp_path / "a", subject="9", forced="tcg")
    assert choice.name == "tcg"
    assert not probe.asked


@pytest.mark.parametrize("refusal", [None, "no permission"])
async def test_a_condemned_accelerator_stays_condemned(
    tmp_path: Path, permission: list[str | None], refusal: str | None
) -> None:
    permission.append(refusal)
    probe, file = Probe(), tmp_path / "a.json"
    choice = await choose(probe, remembered=file, subject="9")
    condemned = condemn(file, "9", choice, choice.name, "no guest boots")
    later = await choose(probe, remembered=file, subject="9")
    assert later == condemned
    assert later.name == ("tcg" if refusal is None else "")
    assert probe.asked == (["kvm", "tcg"] if refusal is None else ["tcg"])
