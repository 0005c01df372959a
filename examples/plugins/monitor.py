"""A plugin of Sandlot that is a program of its own, in any Python, without Sandlot.

Run it with Sandbox.create(..., plugin_processes=["python3 examples/plugins/monitor.py"]).
"""

import json
import sys
from typing import Any


def on_exec(context: dict[str, Any]) -> dict[str, Any]:
    """Refuse one command, and give all others a variable more."""
    if any("shutdown" in word for word in context["argv"]):
        return {"refuse": "this stays on"}
    return {"change": {"env": {**context["env"], "MONITORED": "1"}}}


def on_stop(context: dict[str, Any]) -> dict[str, Any]:
    """Standard error is for people."""
    print(f"{context['sandbox']} ran for {context['duration']:.1f} s", file=sys.stderr)
    return {}


HOOKS = {"on_exec": on_exec, "on_stop": on_stop}


def send(answer: dict[str, Any]) -> None:
    """One line for each answer, at once."""
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


for line in sys.stdin:
    said = json.loads(line)
    if "hello" in said:
        send({"protocol": 1, "name": "monitor-py", "version": "1.0", "hooks": list(HOOKS)})
        continue
    try:
        send({"id": said["id"], **HOOKS[said["hook"]](said["context"])})
    except Exception as error:
        send({"id": said["id"], "error": repr(error)})
