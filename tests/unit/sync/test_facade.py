"""The facade has every method of the asynchronous API, with the same parameters."""

from __future__ import annotations

import inspect

import pytest

import sandlot
from sandlot import sync
from sandlot.sandbox.mounting import SandboxVolumes

PAIRS = [
    (sandlot.Sandbox, sync.Sandbox),
    (sandlot.Process, sync.Process),
    (sandlot.Job, sync.Job),
    (sandlot.Files, sync.Files),
    (sandlot.FileReader, sync.FileReader),
    (sandlot.Watch, sync.Watch),
    (sandlot.Attachment, sync.Attachment),
    (sandlot.SandboxNetwork, sync.SandboxNetwork),
    (sandlot.Snapshot, sync.Snapshot),
    (sandlot.Pool, sync.Pool),
    (sandlot.Volume, sync.Volume),
    (sandlot.Remote, sync.Remote),
    (sandlot.Fleet, sync.Fleet),
    (sandlot.LivePush, sync.LivePush),
    (sandlot.Follow, sync.Follow),
    (SandboxVolumes, sync.SandboxVolumes),
    (sandlot.InputStream, sync.InputStream),
    (sandlot.OutputStream, sync.OutputStream),
]


def public(kind: type) -> dict[str, object]:
    """Of the class and of the bases that it is put together from."""
    return {
        name: value
        for part in reversed(kind.__mro__[:-1])
        for name, value in vars(part).items()
        if not name.startswith("_")
    }


@pytest.mark.parametrize(("origin", "facade"), PAIRS, ids=lambda k: k.__module__)
def test_the_signatures_are_equal(origin: type, facade: type) -> None:
    has_streams = origin in (sandlot.Process, sandlot.Attachment)
    attributes = {"stdin", "stdout", "stderr"} & set(public(origin)) if has_streams else set()
    assert set(public(origin)) - attributes == set(public(facade))
    for name in public(facade):
        one, other = inspect.getattr_static(origin, name), inspect.getattr_static(facade, name)
        assert isinstance(one, property) == isinstance(other, property), name
        if not isinstance(one, property):
            ours = inspect.signature(getattr(origin, name)).parameters.values()
            theirs = inspect.signature(getattr(facade, name)).parameters.values()
            assert [(p.name, p.kind, p.default) for p in ours] == [
                (p.name, p.kind, p.default) for p in theirs
            ], name
            assert not inspect.iscoroutinefunction(getattr(facade, name)), name
