"""A Dockerfile as frozen instructions, each with its line. Pure.

The syntax (continuations, quoting, heredocs, JSON forms) is read by `e2b-dockerfile-utils`, which
follows BuildKit's parser. Variables are not replaced here: their values are not known yet.

Source: the Dockerfile reference of the Docker documentation.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sandlot.errors import BuildError

if TYPE_CHECKING:
    from e2b_dockerfile_utils import DockerfileInstruction

MAX_DOCKERFILE = 4 << 20  # bytes
_STAGE = re.compile(r"[a-z][a-z0-9._-]*")
_URL = re.compile(r"(?:https?|ftp)://|git@|.*\.git(?:#.*)?$")
Pairs = tuple[tuple[str, str], ...]


@dataclass(frozen=True, kw_only=True)
class Heredoc:
    """A text in the Dockerfile itself; `expand` tells whether variables in it are replaced."""

    name: str
    content: str
    expand: bool


def _told(heredocs: tuple[Heredoc, ...]) -> str:
    """` (line; line)` for each."""
    texts = ("; ".join(filter(str.strip, each.content.splitlines())) for each in heredocs)
    return "".join(f" ({text})" for text in texts)


@dataclass(frozen=True, kw_only=True)
class Instruction:
    """One instruction. `text` is the whole of it, without the texts of heredocs."""

    line: int
    text: str

    def shown(self) -> str:
        """For people."""
        return self.text


@dataclass(frozen=True, kw_only=True)
class From(Instruction):
    """The beginning of a stage."""

    image: str
    name: str = ""
    platform: str = ""


@dataclass(frozen=True, kw_only=True)
class Arg(Instruction):
    """Variables of the build; None is one without a default."""

    variables: tuple[tuple[str, str | None], ...]


@dataclass(frozen=True, kw_only=True)
class Env(Instruction):
    """Variables of the image."""

    variables: Pairs


@dataclass(frozen=True, kw_only=True)
class Label(Instruction):
    """What people say about the image."""

    labels: Pairs


@dataclass(frozen=True, kw_only=True)
class Command(Instruction):
    """A command: words, or with `shell` one line for the shell."""

    words: tuple[str, ...]
    shell: bool


@dataclass(frozen=True, kw_only=True)
class Run(Command):
    """Run a command; what it writes becomes a layer."""

    heredocs: tuple[Heredoc, ...] = ()
    network: str = ""

    def shown(self) -> str:
        """With what its heredocs say, each of their lines after a semicolon."""
        return self.text + _told(self.heredocs)


@dataclass(frozen=True, kw_only=True)
class Cmd(Command):
    """The image's command."""


@dataclass(frozen=True, kw_only=True)
class Entrypoint(Command):
    """The image's entrypoint."""


@dataclass(frozen=True, kw_only=True)
class Shell(Instruction):
    """What runs lines for the shell."""

    words: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Copy(Instruction):
    """Copy files into the image; `unpack` is ADD, which unpacks archives."""

    sources: tuple[str, ...]
    target: str
    heredocs: tuple[Heredoc, ...] = ()
    source_image: str = ""
    chown: str = ""
    chmod: str = ""
    unpack: bool = False

    def shown(self) -> str:
        """With what its heredocs say, each of their lines after a semicolon."""
        return self.text + _told(self.heredocs)


@dataclass(frozen=True, kw_only=True)
class Workdir(Instruction):
    """Where commands start."""

    path: str


@dataclass(frozen=True, kw_only=True)
class User(Instruction):
    """As whom commands run."""

    user: str


@dataclass(frozen=True, kw_only=True)
class Expose(Instruction):
    """Ports that the image's program listens on."""

    ports: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Volume(Instruction):
    """Folders whose contents outlive a sandbox."""

    paths: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class StopSignal(Instruction):
    """What asks the image's program to end."""

    signal: str


@dataclass(frozen=True, kw_only=True)
class Healthcheck(Instruction):
    """How to see whether the image's program is well; no test is NONE."""

    test: tuple[str, ...]
    options: Pairs = ()


@dataclass(frozen=True, kw_only=True)
class Stage:
    """From one FROM to the next. `name` is empty when it has none."""

    index: int
    base: From
    instructions: tuple[Instruction, ...]

    @property
    def name(self) -> str:
        """Its name, in lower case."""
        return self.base.name


@dataclass(frozen=True, kw_only=True)
class Dockerfile:
    """What a Dockerfile says. `arguments` stand before the first stage."""

    arguments: tuple[Arg, ...]
    stages: tuple[Stage, ...]
    escape: str = "\\"
    warnings: tuple[str, ...] = ()


def parse_dockerfile(text: str) -> Dockerfile:
    """Read a Dockerfile. Raises BuildError, with the line, for what is wrong or not supported."""
    from e2b_dockerfile_utils import DockerfileSyntaxError, parse_dockerfile_ast

    if len(text) > MAX_DOCKERFILE:
        raise BuildError("the Dockerfile is larger than 4 MiB")
    try:
        tree = parse_dockerfile_ast(text)
    except DockerfileSyntaxError as error:
        message = str(error).partition(": ")[2] or str(error)
        raise BuildError(message, line=error.line) from error
    except (ValueError, RecursionError) as error:
        raise BuildError(f"the Dockerfile cannot be read: {error}") from error
    before: list[Arg] = []
    stages: list[Stage] = []
    base: From | None = None
    inside: list[Instruction] = []

    def close() -> None:
        if base is not None:
            stages.append(Stage(index=len(stages), base=base, instructions=tuple(inside)))

    for node in tree.instructions:
        made = _read(node)
        if isinstance(made, From):
            close()
            base, inside = made, []
        elif base is not None:
            inside.append(made)
        elif isinstance(made, Arg):
            before.append(made)
        else:
            raise BuildError(f"{node.name} stands before the first FROM", line=made.line)
    close()
    if not stages:
        raise BuildError("the Dockerfile has no FROM", hint="begin with FROM and an image")
    names: set[str] = set()
    for stage in stages:
        if stage.name in names:
            raise BuildError(f"two stages are named {stage.name!r}", line=stage.base.line)
        names |= {stage.name} - {""}
    warnings = tuple(f"line {each.line}: {each.message}" for each in tree.warnings)
    return Dockerfile(
        arguments=tuple(before), stages=tuple(stages), escape=tree.escape_token, warnings=warnings
    )


# Section: one reader per instruction


def _read(node: DockerfileInstruction) -> Instruction:
    reader = _READERS.get(node.name)
    if reader is None:
        raise BuildError(f"{node.name} is not supported", line=node.start_line)
    return reader(node)


def _wrong(node: DockerfileInstruction, what: str, hint: str = "") -> BuildError:
    return BuildError(f"{node.name} {what}", line=node.start_line, hint=hint)


def _flags(
    node: DockerfileInstruction, *known: str, ignored: tuple[str, ...] = ()
) -> dict[str, str]:
    found: dict[str, str] = {}
    for flag in node.flags:
        name, equals, value = flag.removeprefix("--").partition("=")
        if name not in known and name not in ignored:
            raise _wrong(node, f"--{name[:60]} is not supported")
        if name in found:
            raise _wrong(node, f"--{name} is given twice")
        if name in known and not (equals and value):
            raise _wrong(node, f"--{name} needs a value")
        found[name] = value
    return found


def _some(node: DockerfileInstruction) -> tuple[str, ...]:
    if not node.args or not any(node.args):
        raise _wrong(node, "needs an argument")
    return tuple(node.args)


def _one(node: DockerfileInstruction) -> str:
    _flags(node)
    words = _some(node)
    if len(words) != 1:
        raise _wrong(node, "takes one argument")
    return words[0]


def _pairs(node: DockerfileInstruction) -> Pairs:
    _flags(node)
    words = _some(node)
    pairs = tuple(zip(words[::3], words[1::3], strict=True))
    if not all(name for name, _ in pairs):
        raise _wrong(node, "has a variable without a name")
    return pairs


def _heredocs(node: DockerfileInstruction) -> tuple[Heredoc, ...]:
    from e2b_dockerfile_utils import chomp_heredoc_content

    return tuple(
        Heredoc(
            name=each.name, expand=each.expand,
            content=chomp_heredoc_content(each.content) if each.chomp else each.content,
        )
        for each in node.heredocs
    )  # fmt: skip


def _from(node: DockerfileInstruction) -> From:
    flags = _flags(node, "platform")
    words = _some(node)
    name = ""
    if len(words) == 3 and words[1].lower() == "as":
        name = words[2].lower()
        if not _STAGE.fullmatch(name):
            raise _wrong(node, f"{words[2][:60]!r} cannot name a stage")
    elif len(words) != 1:
        raise _wrong(node, "takes an image, or an image AS a name")
    return From(
        line=node.start_line, text=node.original, image=words[0], name=name,
        platform=flags.get("platform", ""),
    )  # fmt: skip


def _arg(node: DockerfileInstruction) -> Arg:
    _flags(node)
    variables: list[tuple[str, str | None]] = []
    for word in _some(node):
        name, equals, value = word.partition("=")
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
            raise _wrong(node, f"{name[:60]!r} cannot name a variable")
        variables.append((name, value if equals else None))
    return Arg(line=node.start_line, text=node.original, variables=tuple(variables))


def _run(node: DockerfileInstruction) -> Run:
    flags = _flags(node, "network")
    network = flags.get("network", "")
    if network not in ("", "none", "default"):
        raise _wrong(node, f"--network={network[:60]} is not supported", "use none or default")
    return Run(
        line=node.start_line, text=node.original, words=_some(node), shell=not node.json,
        heredocs=_heredocs(node), network=network,
    )  # fmt: skip


def _command(kind: type[Cmd] | type[Entrypoint]) -> Callable[[DockerfileInstruction], Instruction]:
    def read(node: DockerfileInstruction) -> Instruction:
        _flags(node)
        words = tuple(node.args)
        return kind(line=node.start_line, text=node.original, words=words, shell=not node.json)

    return read


def _shell(node: DockerfileInstruction) -> Shell:
    _flags(node)
    if not node.json:
        raise _wrong(node, "must be written as a JSON list", 'such as ["/bin/bash", "-c"]')
    return Shell(line=node.start_line, text=node.original, words=_some(node))


def _copy(node: DockerfileInstruction) -> Copy:
    add = node.name == "ADD"
    flags = (
        _flags(node, "chown", "chmod", ignored=("link",))
        if add
        else _flags(node, "from", "chown", "chmod", ignored=("link",))
    )
    words, heredocs = _some(node), _heredocs(node)
    texts = sum(1 for word in words if _is_heredoc(word)) if heredocs else 0
    sources = tuple(word for word in words[:-1] if not (texts and _is_heredoc(word)))
    if len(words) < 2:
        raise _wrong(node, "needs something to copy and where to")
    for source in sources:
        if add and _URL.match(source):
            raise _wrong(
                node, f"of an address is not supported: {source[:100]}",
                "download it before, and copy the file",
            )  # fmt: skip
    if "from" in flags and heredocs:
        raise _wrong(node, "--from cannot have a text in the Dockerfile")
    return Copy(
        line=node.start_line, text=node.original, sources=sources, target=words[-1],
        heredocs=heredocs, source_image=flags.get("from", ""), chown=flags.get("chown", ""),
        chmod=flags.get("chmod", ""), unpack=add,
    )  # fmt: skip


def _is_heredoc(word: str) -> bool:
    from e2b_dockerfile_utils import parse_heredoc

    return parse_heredoc(word) is not None


def _healthcheck(node: DockerfileInstruction) -> Healthcheck:
    names = ("interval", "timeout", "start-period", "start-interval", "retries")
    flags = _flags(node, *names)
    words = _some(node)
    kind = words[0].upper()
    if kind == "NONE" and len(words) == 1 and not flags:
        return Healthcheck(line=node.start_line, text=node.original, test=())
    if kind != "CMD" or len(words) < 2:
        raise _wrong(node, "takes CMD and a command, or NONE")
    test = ("CMD", *words[1:]) if node.json else ("CMD-SHELL", words[1])
    return Healthcheck(
        line=node.start_line, text=node.original, test=test, options=tuple(flags.items())
    )


def _maintainer(node: DockerfileInstruction) -> Label:
    return Label(line=node.start_line, text=node.original, labels=(("maintainer", _one(node)),))


def _listed(node: DockerfileInstruction) -> tuple[str, ...]:
    _flags(node)
    return _some(node)


_READERS: dict[str, Callable[[DockerfileInstruction], Instruction]] = {
    "FROM": _from,
    "ARG": _arg,
    "ENV": lambda n: Env(line=n.start_line, text=n.original, variables=_pairs(n)),
    "LABEL": lambda n: Label(line=n.start_line, text=n.original, labels=_pairs(n)),
    "MAINTAINER": _maintainer,
    "RUN": _run,
    "CMD": _command(Cmd),
    "ENTRYPOINT": _command(Entrypoint),
    "SHELL": _shell,
    "COPY": _copy,
    "ADD": _copy,
    "WORKDIR": lambda n: Workdir(line=n.start_line, text=n.original, path=_one(n)),
    "USER": lambda n: User(line=n.start_line, text=n.original, user=_one(n)),
    "EXPOSE": lambda n: Expose(line=n.start_line, text=n.original, ports=_listed(n)),
    "VOLUME": lambda n: Volume(line=n.start_line, text=n.original, paths=_listed(n)),
    "STOPSIGNAL": lambda n: StopSignal(line=n.start_line, text=n.original, signal=_one(n)),
    "HEALTHCHECK": _healthcheck,
}
