"""From files to a `FleetSpec`: variables, extends, profiles, env files, references.

Everything that is wrong is told at once. It reads files, and nothing else of the machine.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sandlot.errors import ConfigError
from sandlot.fleet import DEFAULT_FILES
from sandlot.fleet.compose import as_sandboxfile, is_compose
from sandlot.fleet.document import Node, parse
from sandlot.fleet.extending import merged
from sandlot.fleet.problems import Place, Problems, nearest
from sandlot.fleet.resolving import Resolving
from sandlot.fleet.spec import FleetSpec
from sandlot.fleet.validation import validated

MOST_BYTES = 1 << 20


def default_file(folder: Path | None = None) -> Path:
    """The Sandboxfile of a folder.

    Raises:
        ConfigError: there is none.
    """
    place = folder or Path()
    for name in DEFAULT_FILES:
        if (place / name).is_file():
            return place / name
    raise ConfigError(
        f"there is no {' or '.join(DEFAULT_FILES)} in {place.absolute()}",
        hint="name the file with -f, such as -f compose.yaml",
    )


def read_fleet(
    path: Path, *, name: str | None = None, profiles: Sequence[str] = (),
    variables: Mapping[str, str] | None = None,
) -> FleetSpec:  # fmt: skip
    """What a file says a fleet is to be.

    Args:
        path: of a Sandboxfile, or of a compose file.
        name: the fleet's, instead of the file's own or its folder's.
        profiles: members of these are there too; `*` is all.
        variables: what `${NAME}` stands for; the environment, and `.env` beside the file, when None.

    Raises:
        ConfigError: the file cannot be read.
        SandboxfileError: it is wrong.
    """
    reader = _Reader(variables)
    tree = reader.tree(path)
    reader.problems.check()
    assert tree is not None
    extended = reader.extended(tree, path)
    model = validated(extended, reader.problems)
    if model is None:
        reader.problems.check()
        raise AssertionError("a model that does not fit has problems")
    resolving = Resolving(
        extended, model, reader.problems, name or model.name or folder_name(path),
        reader.variables, frozenset(profiles), reader.environment,
    )  # fmt: skip
    spec = resolving.spec(path.absolute())
    for secret in resolving.secret_variables():
        if secret in reader.used:
            reader.problems.add(
                reader.used[secret],
                f"{secret} is a secret, and ${{{secret}}} would write its value into the file",
                "leave it out; the variable is there in the sandbox by itself",
            )
    reader.problems.check()
    return spec


def folder_name(path: Path) -> str:
    """The name of a fleet whose file names none."""
    text = re.sub(r"[^a-z0-9_-]+", "-", path.absolute().parent.name.lower()).strip("-_.")
    return text[:30] or "fleet"


def read_variables(path: Path) -> dict[str, str]:
    """`NAME=VALUE` lines of an env file: comments, `export`, and quotes as shells have them.

    Raises:
        ConfigError: it cannot be read.
    """
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise ConfigError(f"cannot read env file {path}: {reason}") from error
    found: dict[str, str] = {}
    for line in text.splitlines():
        line = line.strip().removeprefix("export ").lstrip()
        if not line or line.startswith("#"):
            continue
        name, _, value = line.partition("=")
        quoted = re.match(r"""\s*(["'])(.*)\1\s*(#.*)?$""", value)
        value = quoted[2] if quoted else re.split(r"(?:^|\s)#", value, maxsplit=1)[0].strip()
        found[name.strip()] = value
    return found


@dataclass
class _Reader:
    given: Mapping[str, str] | None
    problems: Problems = field(default_factory=Problems)
    variables: dict[str, str] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    used: dict[str, Place] = field(default_factory=dict)
    trees: dict[Path, Node | None] = field(default_factory=dict)

    def tree(self, path: Path) -> Node | None:
        """The tree of a file, as a Sandboxfile."""
        real = path.absolute()
        if real in self.trees:
            return self.trees[real]
        try:
            if path.stat().st_size > MOST_BYTES:
                raise ConfigError(f"{path} is larger than {MOST_BYTES >> 20}M")
            text = path.read_text()
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise ConfigError(
                f"cannot read {path}: {reason}", hint="name the file with -f"
            ) from error
        except UnicodeDecodeError as error:
            raise ConfigError(f"{path} is not UTF-8 text") from error
        if not self.trees:
            self.environment = os.environ if self.given is None else self.given
            beside = path.parent / ".env"
            from_file = read_variables(beside) if self.given is None and beside.is_file() else {}
            self.variables = {**from_file, **self.environment}
        found = parse(text, str(path), self.variables, self.problems, self.used)
        if found is not None and is_compose(found):
            found = as_sandboxfile(found, self.problems)
        self.trees[real] = found
        return found

    def extended(self, tree: Node, path: Path) -> Node:
        """The tree with every `extends` followed."""
        members = tree.get("sandboxes")
        if members is None or not isinstance(members.value, dict):
            return tree
        done = {name: self._member(tree, path, name, ()) or node for name, node in members.items()}
        return tree.changed(sandboxes=Node(done, members.place, keys=members.keys))

    def _member(
        self, tree: Node, path: Path, name: str, above: tuple[tuple[Path, str], ...]
    ) -> Node | None:
        members = tree.get("sandboxes")
        node = members.get(name) if members else None
        if node is None or not isinstance(node.value, dict) or "extends" not in node.value:
            return node
        says: Node = node.value["extends"]
        rest = node.changed(extends=None)
        here = (path.absolute(), name)
        if here in above:
            names = " extends ".join(each for _, each in (*above[above.index(here) :], here))
            self.problems.add(says.place, f"a cycle: {names}")
            return rest
        other, file = self._target(says)
        if other is None:
            return rest
        base_path = path.parent / file if file else path
        if file:
            try:
                base_tree = self.tree(base_path)
            except ConfigError as error:
                self.problems.fault(says.place_of("file"), error)
                return rest
            if base_tree is None:
                return rest
        else:
            base_tree = tree
        base = self._member(base_tree, base_path, other, (*above, here))
        if base is None:
            inside = base_tree.get("sandboxes")
            known = [each for each, _ in inside.items()] if inside else []
            self.problems.add(
                says.place, f"there is no sandbox {other!r} in {base_path}", nearest(other, known)
            )
            return rest
        return merged(base, rest)

    def _target(self, says: Node) -> tuple[str | None, str]:
        if isinstance(says.value, str):
            return says.value, ""
        name = says.get("sandbox") or says.get("service")
        file = says.get("file")
        for key in says.value if isinstance(says.value, dict) else ():
            if key not in ("file", "sandbox", "service"):
                self.problems.add(
                    says.key_place(key), f"there is no {key!r} here",
                    nearest(key, ["file", "sandbox"]),
                )  # fmt: skip
        if name is None or not isinstance(name.value, str):
            self.problems.add(says.place, "extends names no sandbox", "use extends: NAME")
            return None, ""
        return name.value, file.text if file is not None else ""
