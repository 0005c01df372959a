"""A resolved file as YAML that can be read again. Pure."""

from __future__ import annotations

import io
from typing import Any


def yaml_text(config: dict[str, Any]) -> str:
    """The YAML; a `$` in it is doubled, so that nothing is put in a second time."""
    from ruamel.yaml import YAML

    yaml = YAML()
    yaml.default_flow_style = False
    yaml.width = 100
    out = io.StringIO()
    yaml.dump(_escaped(config), out)
    return out.getvalue()


def _escaped(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _escaped(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_escaped(each) for each in value]
    return value.replace("$", "$$") if isinstance(value, str) else value
