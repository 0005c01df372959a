"""Names and addresses of other sandboxes."""

from __future__ import annotations

import pytest

from sandlot.errors import ConfigError
from sandlot.network import peers as module
from sandlot.network.peers import PEER_ADDRESSES, PeerTable, checked_peers


def test_a_peer_is_a_sandbox_or_several() -> None:
    assert checked_peers({"DB.": "shop-db", "api": ["a-1", "a-2"]}) == {
        "db": ("shop-db",), "api": ("a-1", "a-2"),
    }  # fmt: skip


@pytest.mark.parametrize(
    "given",
    [
        ["db"], "db", {"": "x"}, {"host.sandlot.internal": "x"}, {"localhost": "x"}, {"1.2": "x"},
        {"a b": "x"}, {"db": ""}, {"db": []}, {"db": 5}, {"db": [5]}, {"db": "../x"}, {5: "x"},
        {"db": ["x"] * 1025}, {f"n{number}": "x" for number in range(1025)},
    ],
)  # fmt: skip
def test_what_is_no_peer_is_told(given: object) -> None:
    with pytest.raises(ConfigError):
        checked_peers(given)


def test_a_name_keeps_its_address() -> None:
    table = PeerTable()
    table.hold(["db", "api"])
    before = {name: table.address_of(name) for name in ("api", "db")}
    assert len(set(before.values())) == 2
    table.hold(["a", "db"])
    assert table.address_of("db") == before["db"]
    assert table.address_of("api") is None and table.address_of("nobody") is None
    gone = before["api"]
    assert gone is not None and table.name_of(gone) is None
    assert table.address_of("a") not in before.values()
    table.hold(["api"])
    assert table.address_of("api") == gone and table.name_of(gone) == "api"


def test_addresses_do_not_run_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PEER_ADDRESSES", next(PEER_ADDRESSES.subnets(new_prefix=29)))
    table = PeerTable()
    table.hold(["stays"])
    first = table.address_of("stays")
    for number in range(40):
        names = ["stays", *(f"n{number}-{each}" for each in range(3))]
        table.hold(names)
        found = {table.address_of(name) for name in names}
        assert len(found) == 4 and None not in found and table.address_of("stays") == first
