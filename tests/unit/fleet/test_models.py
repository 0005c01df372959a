"""The models have what `Sandbox.create` has, and their JSON Schema is published."""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Any

from sandlot.fleet.models import SandboxModel, json_schema
from sandlot.sandbox.sandbox import Sandbox

PUBLISHED = Path(__file__).parents[3] / "docs" / "reference" / "sandboxfile.schema.json"


def test_every_option_of_create_has_the_same_name() -> None:
    """But for the name, which is the member's, and functions, which no file can hold."""
    options = set(inspect.signature(Sandbox.create).parameters) - {"name", "hooks"}
    assert options <= set(SandboxModel.model_fields)


def test_the_published_schema_is_current() -> None:
    """`sandlot config --schema > docs/reference/sandboxfile.schema.json` writes it."""
    assert json.loads(PUBLISHED.read_text()) == json_schema()


def test_everything_is_described() -> None:
    def check(where: str, part: dict[str, Any]) -> None:
        for name, each in part.get("properties", {}).items():
            assert each.get("description") or "$ref" in each, f"{where}.{name}"

    schema = json_schema()
    check("Sandboxfile", schema)
    for name, part in schema["$defs"].items():
        check(name, part)


def test_short_and_long_forms_are_in_the_schema() -> None:
    member = json_schema()["$defs"]["SandboxModel"]
    assert member["additionalProperties"] is False
    for name in ("depends_on", "secrets", "env", "command", "extends"):
        assert len(member["properties"][name]["anyOf"]) >= 2, name
