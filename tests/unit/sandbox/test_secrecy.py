"""Secrets between programs: what is written down, what goes through the pipe."""

from __future__ import annotations

import dataclasses
import json

import pytest

from sandlot.errors import ConfigError
from sandlot.sandbox.secrecy import (
    again,
    checked_secrets,
    packed,
    recorded_secrets,
    secret_options,
    unpacked,
)
from sandlot.secrets import Secret
from sandlot.secrets.source import Environment, Given, Missing
from sandlot.state.records import SandboxRecord

HOST = "api.example.com"
VALUE = "sk-a-value-of-this-test"
RECORD = SandboxRecord(
    id="0", name="box", image="x", image_digest="x", memory=1, cpus=1, disk=1, hostname="box",
    machine_id="0", detached=True,
)  # fmt: skip


@pytest.mark.parametrize(
    ("secrets", "env"),
    [("x", {}), ({1: ("v", HOST)}, {}), ({"A=B": ("v", HOST)}, {}), ({"A": "v"}, {}),
     ({"A": (VALUE, HOST)}, {"A": "1"})],
)  # fmt: skip
def test_wrong_ones_are_told_without_a_value(secrets: object, env: dict[str, str]) -> None:
    with pytest.raises(ConfigError) as caught:
        checked_secrets(secrets, env, False)
    assert VALUE not in str(caught.value) + caught.value.hint


async def test_a_record_has_sources_and_placeholders_but_no_value() -> None:
    secrets = checked_secrets({"A": (VALUE, HOST)}, {}, True)
    fields, variables = await secret_options(secrets)
    assert VALUE not in json.dumps([fields, variables])
    assert variables["A"] == fields["placeholders"]["A"] and "SSL_CERT_FILE" in variables
    assert await secret_options({}) == ({}, {})
    record = dataclasses.replace(RECORD, **fields)
    assert isinstance(recorded_secrets(record, {})["A"].source, Missing)
    assert recorded_secrets(record, secrets)["A"] is secrets["A"]
    with pytest.raises(ConfigError, match="no secret B"):
        again(record, {}, {"B": (VALUE, HOST)})
    assert set(again(record, {}, {"A": (VALUE, HOST)})) == {"A"}


async def test_only_values_that_a_program_gave_go_through_the_pipe() -> None:
    secrets = {"A": Secret(VALUE, hosts=HOST), "B": Secret(env="HOME", hosts=HOST)}
    fields, _ = await secret_options(secrets)
    record = dataclasses.replace(RECORD, **fields)
    data = packed(secrets)
    assert set(json.loads(data)) == {"A"}
    found = recorded_secrets(record, unpacked(record, data))
    assert isinstance(found["A"].source, Given) and await found["A"].source.read() == VALUE.encode()
    assert isinstance(found["B"].source, Environment)
    assert unpacked(record, b"") == {}
