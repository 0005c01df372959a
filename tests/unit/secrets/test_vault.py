"""The secrets of one running sandbox."""

from __future__ import annotations

import asyncio
import pickle

import pytest

from sandlot.errors import SecretUnavailable
from sandlot.secrets import Secret, Vault
from sandlot.secrets.bodies import masking

VALUE = "sk-the-real-value-of-this-test"


async def test_fresh_ones_have_placeholders_for_the_guest() -> None:
    secrets = {"A": Secret(VALUE, hosts="a.example"), "B": Secret(VALUE, hosts="b.example")}
    vault, other = await Vault.fresh(secrets), await Vault.fresh(secrets)
    environment = vault.environment()
    assert set(environment) == {"A", "B"} and len(set(environment.values())) == 2
    assert not set(environment.values()) & set(other.environment().values())
    assert VALUE not in repr(vault) + str(environment) and "sk-" in environment["A"]
    assert vault.secrets() == secrets
    with pytest.raises(TypeError):
        pickle.dumps(vault)


async def test_a_fork_keeps_the_placeholders_of_its_parent() -> None:
    parent = await Vault.fresh({"A": Secret(VALUE, hosts="a.example")})
    child = await Vault.fresh(
        {"A": Secret("its own", hosts="a.example"), "B": Secret("b", hosts="b.example")},
        kept=parent.environment(),
    )
    assert child.environment()["A"] == parent.environment()["A"]
    mark = parent.environment()["A"].encode()
    head = child.substitution("a.example", 443).head(b"/", [(b"x-api-key", mark)])
    assert head.fields == [(b"x-api-key", b"its own")]


async def test_a_missing_one_is_named() -> None:
    gone = Secret.from_record(Secret(VALUE, hosts="a.example").to_record())
    with pytest.raises(SecretUnavailable, match="secret A: it was given by the program") as raised:
        await Vault.fresh({"A": gone})
    assert raised.value.secret == "A" and raised.value.hint
    vault = Vault({"A": gone}, {"A": "placeholder"})
    with pytest.raises(SecretUnavailable):
        await vault.read_all()
    short = Secret("short", hosts="a.example", mask_echo=True)
    with pytest.raises(SecretUnavailable, match="too few to be masked"):
        await Vault.fresh({"A": short})


async def test_which_connections_are_looked_into() -> None:
    vault = await Vault.fresh(
        {
            "A": Secret(VALUE, hosts=["a.example", "*.b.example:8443"]),
            "C": Secret(VALUE, hosts="c.example", plain_http=True),
        }
    )
    assert vault.concerns("a.example", 443) and vault.concerns("x.b.example", 8443)
    assert not vault.concerns("x.b.example", 443) and not vault.concerns("evil.example", 443)
    assert vault.in_plain_http("c.example", 80) and not vault.in_plain_http("a.example", 80)
    assert not vault.refuses_misuse()
    assert vault.substitution("a.example", 443).active


async def test_rotation_without_restart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SANDLOT_TEST_KEY", "first")
    calls: list[int] = []

    async def token() -> str:
        calls.append(1)
        await asyncio.sleep(0)
        return f"token-{len(calls)}"

    vault = await Vault.fresh(
        {
            "ENV": Secret(env="SANDLOT_TEST_KEY", hosts="a.example"),
            "CALL": Secret(token, hosts="b.example"),
        }
    )
    marks = vault.environment()

    def sent(host: str, name: str) -> bytes:
        fields = [(b"x-api-key", marks[name].encode())]
        return vault.substitution(host, 443).head(b"/", fields).fields[0][1]

    assert vault.stale("a.example", 443) and not vault.stale("b.example", 443)
    monkeypatch.setenv("SANDLOT_TEST_KEY", "second")
    await vault.refresh("a.example", 443)
    assert sent("a.example", "ENV") == b"second"
    await asyncio.gather(*(vault.refresh("b.example", 443) for _ in range(5)))
    assert sent("b.example", "CALL") == b"token-1" and len(calls) == 1
    vault.replace("CALL", Secret(token, hosts="b.example", refresh=3600))
    await asyncio.gather(*(vault.refresh("b.example", 443) for _ in range(5)))
    assert sent("b.example", "CALL") == b"token-2" and len(calls) == 2


async def test_values_that_were_rotated_are_still_masked() -> None:
    secret = Secret("the-first-value-of-it", hosts="a.example", mask_echo=True)
    vault = await Vault.fresh({"KEY": secret})
    mark = vault.environment()["KEY"].encode()
    for number in range(2, 12):
        again = Secret(f"the-value-number-{number:04}", hosts="a.example", mask_echo=True)
        vault.replace("KEY", again)
        await vault.refresh("a.example", 443)
    table = masking(vault.substitution("a.example", 443))
    assert table[b"the-value-number-0011"] == table[b"the-value-number-0010"] == mark
    assert len(table) == 9  # and no more than the last ones


async def test_a_source_that_fails_later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SANDLOT_TEST_KEY", "first")
    vault = await Vault.fresh({"ENV": Secret(env="SANDLOT_TEST_KEY", hosts="a.example")})
    monkeypatch.delenv("SANDLOT_TEST_KEY")
    await vault.refresh("a.example", 443)
    (bound,) = vault.substitution("a.example", 443).bound
    assert bound.value is None and "SANDLOT_TEST_KEY is not set" in bound.problem
    monkeypatch.setenv("SANDLOT_TEST_KEY", "again")
    await vault.refresh("a.example", 443)
    assert bound.value == b"again" and not bound.problem


async def test_what_a_server_said_is_recorded_without_values() -> None:
    vault = await Vault.fresh({"KEY": Secret('a"b c-of-some-length', hosts="a.example")})
    mark = vault.environment()["KEY"].encode()
    assert vault.redact(b'/x?k=a"b c-of-some-length') == b"/x?k=" + mark
    assert vault.redact(b"/x?k=a%22b%20c-of-some-length") == b"/x?k=" + mark
    assert vault.redact(b"nothing") == b"nothing"
