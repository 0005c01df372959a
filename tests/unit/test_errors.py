"""The errors carry what people and programs need."""

from __future__ import annotations

import importlib
import inspect
import pkgutil

import pytest

import sandlot
from sandlot import errors


def test_the_tree_in_the_docstring_is_complete() -> None:
    names = {
        n for n, v in vars(errors).items() if inspect.isclass(v) and v.__module__ == errors.__name__
    }
    assert errors.__doc__ is not None
    assert names == {n for n in names if f"{n} " in errors.__doc__ or f"{n}\n" in errors.__doc__}


def test_every_error_that_users_meet_is_in_the_tree() -> None:
    for module in pkgutil.walk_packages(sandlot.__path__, "sandlot."):
        importlib.import_module(module.name)

    def below(kind: type[Exception]) -> set[type[Exception]]:
        found = {kind}
        for each in kind.__subclasses__():
            found |= below(each)
        return found

    outside = {
        kind.__name__ for kind in below(errors.SandboxError) if kind.__module__.startswith("sandlot.")
        and kind.__module__ != errors.__name__
    }  # fmt: skip
    assert outside == {"BlobBusy"}, "only what its own package catches may be elsewhere"


def test_a_protocol_error_must_say_whose_fault_it_is() -> None:
    with pytest.raises(TypeError):
        errors.ProtocolError("somebody did it")
    assert errors.GuestProtocolError("you", hint="h").hint == "h"


@pytest.mark.parametrize(
    ("error", "builtin"),
    [
        (errors.ConfigError, ValueError),
        (errors.ImageNotFound, LookupError),
        (errors.SandboxNotFound, LookupError),
        (errors.ExecTimeout, TimeoutError),
    ],
)
def test_errors_are_also_the_builtin_ones_where_true(
    error: type[Exception], builtin: type[Exception]
) -> None:
    assert issubclass(error, builtin)
    assert issubclass(error, errors.SandboxError)


def test_exit_codes_are_the_shells() -> None:
    assert errors.CommandNotFound("x").exit_code == 127
    assert errors.CommandNotExecutable("x").exit_code == 126
    assert errors.ExecError("x").exit_code == 125
