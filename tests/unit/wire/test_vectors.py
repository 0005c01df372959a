"""The golden vectors: the same file is read by the Go tests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sandlot.wire import frames, messages
from sandlot.wire.frames import Frame
from sandlot.wire.messages import HEADER, KINDS, MessageReader

FILE = Path(__file__).parents[3] / "protocol" / "vectors.json"
VECTORS: dict[str, Any] = json.loads(FILE.read_text())


@pytest.mark.parametrize("vector", VECTORS["frames"], ids=lambda v: v["name"])
def test_frame(vector: dict[str, Any]) -> None:
    frame = Frame(
        vector["type"], vector["flags"], vector["stream"], vector["length"],
        bytes.fromhex(vector["payload"]), vector["offset"],
    )  # fmt: skip
    assert frames.encode(frame).hex() == vector["hex"]


def _value(value: Any, default: Any) -> Any:
    if isinstance(default, bytes):
        return bytes.fromhex(value)
    return value


@pytest.mark.parametrize("vector", VECTORS["messages"], ids=lambda v: v["name"])
def test_message(vector: dict[str, Any]) -> None:
    kind = KINDS[vector["kind"]]
    empty = kind()
    values: dict[str, Any] = {}
    for name, value in vector["fields"].items():
        if isinstance(value, list):
            octets = name in ("argv", "env", "changes")
            values[name] = tuple(bytes.fromhex(v) if octets else v for v in value)
        else:
            values[name] = _value(value, getattr(empty, name))
    message = kind(**values)
    raw = bytes.fromhex(vector["hex"])
    assert messages.encode(message) == raw
    assert messages.decode(kind.kind, raw[HEADER.size :]) == message
    assert MessageReader(1 << 20).receive(raw) == [message]


def test_resync() -> None:
    vector = VECTORS["resync"]
    token, nonce = bytes.fromhex(vector["token"]), bytes.fromhex(vector["nonce"])
    assert frames.resync_request(token, nonce).hex() == vector["request"]
    assert frames.resync_reply(nonce).hex() == vector["reply"]


def test_the_file_is_what_the_implementation_writes() -> None:
    import importlib.util

    spec = importlib.util.spec_from_file_location("vectors", FILE.with_name("make_vectors.py"))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.vectors() == VECTORS
