"""What a user says of a secret."""

from __future__ import annotations

import copy
import json
import pickle

import pytest

from sandlot.errors import ConfigError
from sandlot.secrets.secret import Secret, as_secret
from sandlot.secrets.source import Called, Given, Missing

VALUE = "sk-the-real-value-of-this-test"


def test_the_short_forms() -> None:
    one = as_secret("KEY", (VALUE, "api.example.com"))
    assert one.names("api.example.com", 443) and not one.names("example.com", 443)
    many = as_secret("KEY", (VALUE, ["a.example.com", "b.example.com:99"]))
    assert many.names("b.example.com", 99)
    assert as_secret("KEY", many) is many
    assert isinstance(as_secret("KEY", (lambda: VALUE, "a.example.com")).source, Called)


@pytest.mark.parametrize("bad", [VALUE, (VALUE,), [VALUE, "h.com"], {"value": VALUE}, (1, "h.com")])
def test_what_is_no_secret_is_not_told(bad: object) -> None:
    with pytest.raises(ConfigError) as raised:
        as_secret("KEY", bad)
    assert VALUE not in str(raised.value) + raised.value.hint


def test_the_value_is_never_shown() -> None:
    one = Secret(VALUE, hosts="api.example.com", inject=["credentials", "body"])
    assert VALUE not in repr(one) + str(one) + f"{one!r}" + json.dumps(one.to_record())
    assert VALUE not in repr(vars(one))
    for copying in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError):
            copying(one)
    assert repr(Secret(env="K", hosts=["h.com"])) == "Secret(env='K', hosts=['h.com'])"


def test_records() -> None:
    one = Secret(
        command=["get", "key"], hosts=["*.example.com", "a.com:99"], inject=["query:key", "body"],
        on_misuse="refuse", plain_http=True, mask_echo=True, refresh=7,
    )  # fmt: skip
    again = Secret.from_record(json.loads(json.dumps(one.to_record())))
    assert again.to_record() == one.to_record()
    assert repr(again) == repr(one)
    given = Secret.from_record(Secret(VALUE, hosts="a.com").to_record())
    assert isinstance(given.source, Missing)
    assert isinstance(Secret(VALUE, hosts="a.com").source, Given)
    for broken in ({}, {**one.to_record(), "source": 1}, {**one.to_record(), "hosts": 1}):
        with pytest.raises(ConfigError):
            Secret.from_record(broken)


def test_arguments() -> None:
    for wrong in (
        {"hosts": "a.com"},
        {"value": VALUE, "env": "K", "hosts": "a.com"},
        {"value": VALUE, "hosts": []},
        {"value": VALUE, "hosts": ["*"]},
        {"value": VALUE, "hosts": "a.com", "on_misuse": "ask"},
        {"value": VALUE, "hosts": "a.com", "inject": "everything"},
        {"env": "K", "hosts": "a.com", "refresh": -1},
    ):
        with pytest.raises(ConfigError) as raised:
            Secret(**wrong)
        assert VALUE not in str(raised.value)
