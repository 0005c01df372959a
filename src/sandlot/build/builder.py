"""Building an image from a Dockerfile, step by step, each step once."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from sandlot.build.cache import find_step, layers_of
from sandlot.build.commands import Machine, command_of, run_command
from sandlot.build.dockerfile import Copy, Dockerfile, Instruction, Run, Stage, Workdir
from sandlot.build.graph import find_stage, order
from sandlot.build.layering import Layering, content_key, copy_files
from sandlot.build.progress import BuildProgress
from sandlot.build.selection import Found, parse_mode, parse_owner, place, select
from sandlot.build.sources import Context, ImageFiles, Source, digest_of_file
from sandlot.build.state import State, apply
from sandlot.build.variables import PROXIES, Scope, platform_arguments
from sandlot.errors import BuildError, ImageError, SandboxError
from sandlot.image.compression import Plain, compression_of
from sandlot.image.config import ImageConfig
from sandlot.image.manifest import Platform
from sandlot.image.packing import PackedLayer, add_image, pack_layer
from sandlot.image.steps import step_name, untagged_name
from sandlot.image.tar import read_tar
from sandlot.image.tree import Node
from sandlot.sandbox.pulling import find_image

if TYPE_CHECKING:
    from sandlot.image.records import Image
    from sandlot.sandbox.host import Host

SCRATCH = "scratch"
_NEUTRAL = ImageConfig()  # a step is its files: what else it is comes from the Dockerfile
Owner = tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class BuildOptions:
    """How to build, apart from what the Dockerfile says."""

    arguments: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    target: str = ""
    use_cache: bool = True
    pull: str | None = None
    machine: Machine = field(default_factory=Machine)


class Builder:
    """Builds one Dockerfile. To be used inside `ImageStore.working`."""

    def __init__(
        self, host: Host, dockerfile: Dockerfile, context: Context, options: BuildOptions,
        progress: BuildProgress,
    ) -> None:  # fmt: skip
        self._host = host
        self._store = host.images
        self._dockerfile = dockerfile
        self._context = context
        self._options = options
        self._progress = progress
        self._platform = Platform.host()
        self._done: dict[int, State] = {}
        self._images: dict[str, Image] = {}

    async def build(self, name: str | None, source: str) -> Image:
        """Build the target and give it a name, if any. Raises BuildError and what pulling raises."""
        scope = self._first_scope()
        bases = [scope.expand(s.base.image, s.base.line) for s in self._dockerfile.stages]
        stages = order(self._dockerfile, self._options.target, bases)
        for stage in stages:
            self._done[stage.index] = await self._stage(stage, bases[stage.index], scope)
        state = self._done[stages[-1].index]
        self._tell_unused()
        labels = {**state.config.labels, **self._options.labels}
        config = replace(state.config, labels=labels)
        self._progress.begin(f"writing image {name}" if name else "writing the image")
        key = f"{state.key} {json.dumps(config.to_json(), sort_keys=True)}"
        made = await asyncio.to_thread(
            add_image, self._store, name or untagged_name(hashlib.sha256(key.encode()).hexdigest()),
            config, state.layers, history=state.history, source=source, key=state.key,
        )  # fmt: skip
        self._progress.done()
        return made

    # Section: stages

    def _first_scope(self) -> Scope:
        """What holds before the first FROM."""
        platform = platform_arguments(
            self._platform.os, self._platform.architecture, self._platform.variant
        )
        scope = Scope(
            given=self._options.arguments, arguments=platform, escape=self._dockerfile.escape
        )
        for arg in self._dockerfile.arguments:
            scope = scope.declare(arg)
        return scope

    async def _stage(self, stage: Stage, base: str, first: Scope) -> State:
        steps = [each for each in stage.instructions if isinstance(each, Run | Copy | Workdir)]
        total, number = len(steps) + 1, 1

        def title(instruction: Instruction) -> str:
            name = f"{stage.name} " if stage.name else ""
            return f"[{name}{number}/{total}] {' '.join(instruction.shown().split())}"

        self._progress.begin(title(stage.base))
        state = await self._base(stage, base, first)
        self._progress.done()
        for instruction in stage.instructions:
            if isinstance(instruction, Run | Copy | Workdir):
                number += 1
                self._progress.begin(title(instruction))
            try:
                state = await self._step(stage, state, instruction)
            except BuildError as error:
                self._progress.failed()  # why is in the error, which is told once
                if error.line is None:
                    raise BuildError(
                        error.message, hint=error.hint, line=instruction.line
                    ) from error
                raise
            except SandboxError:
                self._progress.failed()
                raise
        return state

    async def _base(self, stage: Stage, base: str, first: Scope) -> State:
        """What a stage begins with."""
        line = stage.base.line
        if not base:
            raise BuildError("FROM names no image", line=line)
        if stage.base.platform:
            wanted = Platform.parse(first.expand(stage.base.platform, line))
            if not wanted.runs(self._platform):
                raise BuildError(
                    f"the platform {wanted} cannot be built on {self._platform}", line=line
                )
        earlier = self._dockerfile.stages[: stage.index]
        other = next((s for s in reversed(earlier) if s.name and s.name == base.lower()), None)
        if other is not None:
            state = self._done[other.index]
        elif base == SCRATCH:
            config = ImageConfig(env={})
            state = State(
                key=State(key="", image="", config=config).next_key(SCRATCH),
                image="",
                config=config,
            )
        else:
            state = await self._from_image(base, line)
        known = {**first.arguments}
        scope = Scope(
            given=self._options.arguments, known=known, environment=state.config.env,
            escape=self._dockerfile.escape,
        )  # fmt: skip
        return replace(state, scope=scope, cmd_is_own=False)

    async def _from_image(self, name: str, line: int) -> State:
        image = await self._image(name, line)
        layers = await asyncio.to_thread(layers_of, self._store, image)
        state = State(key="", image=image.name, config=image.config, layers=layers)
        return replace(state, key=state.next_key("from", image.id))

    async def _image(self, name: str, line: int) -> Image:
        if name not in self._images:
            try:
                self._images[name] = await find_image(
                    self._host, name, pull=self._options.pull,
                    progress=self._stage_teller(),
                )  # fmt: skip
            except ImageError as error:
                raise BuildError(error.message, hint=error.hint, line=line) from error
        return self._images[name]

    def _stage_teller(self) -> Callable[[str, float | None], None]:
        """Tells each stage of a pull once."""
        told: set[str] = set()

        def tell(stage: str, fraction: float | None) -> None:
            if stage not in told:
                told.add(stage)
                self._progress.say(stage)

        return tell

    # Section: steps

    async def _step(self, stage: Stage, state: State, instruction: Instruction) -> State:
        if isinstance(instruction, Run):
            return await self._run(state, instruction)
        if isinstance(instruction, Copy):
            return await self._copy(stage, state, instruction)
        after = apply(state, instruction)
        if isinstance(instruction, Workdir):
            return await self._workdir(after, instruction)
        return after.remember(instruction, layer=False)

    async def _run(self, state: State, run: Run) -> State:
        if not state.image:
            raise BuildError("there is nothing in the image to run", line=run.line)
        argv, script = command_of(state, run)
        key = state.next_key(
            "run", argv, (script or b"").decode(), state.scope.for_key(), state.config.user,
            state.config.working_dir,
        )  # fmt: skip

        async def make() -> PackedLayer | None:
            return await run_command(self._store, state, run, self._options.machine, self._progress)

        return await self._layer(state, run, key, make)

    async def _workdir(self, state: State, instruction: Workdir) -> State:
        path = state.config.working_dir.encode(errors="surrogateescape")

        def make() -> PackedLayer | None:
            def fill(layering: Layering) -> None:
                layering.folder(path)

            return self._pack(state, fill, (0, 0))

        key = state.next_key("workdir", state.config.working_dir)
        return await self._layer(state, instruction, key, lambda: asyncio.to_thread(make))

    async def _copy(self, stage: Stage, state: State, copy: Copy) -> State:
        scope, line = state.scope, copy.line
        source, origin = await self._source(stage, copy)
        image = await asyncio.to_thread(self._files, state)
        chown = scope.expand(copy.chown, line)
        owner = (
            parse_owner(chown, image.text(b"etc/passwd"), image.text(b"etc/group"))
            if chown
            else None
        )
        mode = parse_mode(scope.expand(copy.chmod, line)) if copy.chmod else None
        target = state.path(scope.expand(copy.target, line)).encode(errors="surrogateescape")
        found: list[Found] = []
        for pattern in copy.sources:
            word = scope.expand(pattern, line)
            these = await asyncio.to_thread(
                select, source.tree, word.encode(errors="surrogateescape")
            )
            if not these:
                raise BuildError(
                    f"there is no {word[:200]!r} in {origin}",
                    line=line,
                    hint=self._hint(source),
                )
            found += these
        texts = [
            (each.name, scope.expand_text(each.content, line) if each.expand else each.content)
            for each in copy.heredocs
        ]
        named = len(copy.sources) + len(texts)
        archives: list[Node] = []
        if copy.unpack:
            archives = await asyncio.to_thread(_archives, source, found)
        plain = [each for each in found if each.node not in archives]
        placed = place(plain, target, named=named, image=image.tree)
        for_texts = [
            (p, text.encode())
            for (name, text) in texts
            for p in place(
                [Found(name.encode(), _text_node(text))], target, named=named, image=image.tree
            )
        ]

        def digest(node: Node) -> str:
            return digest_of_file(source, node)

        contents = await asyncio.to_thread(content_key, placed, digest, owner=owner, mode=mode)
        key = state.next_key(
            "copy", contents, [digest(node) for node in archives], target.decode(errors="replace"),
            [(p.path.decode(errors="replace"), text.decode()) for p, text in for_texts],
            list(owner or ()), mode,
        )  # fmt: skip

        def make() -> PackedLayer | None:
            def fill(layering: Layering) -> None:
                import io

                copy_files(layering, source, placed, owner=owner, mode=mode)
                for placement, text in for_texts:
                    layering.put(placement, io.BytesIO(text), owner=owner, mode=mode)
                for node in archives:
                    with source.open(node) as file, Plain(file) as stream:
                        layering.unpack(read_tar(stream), target, owner=owner)

            return self._pack(state, fill, owner or (0, 0), image)

        return await self._layer(state, copy, key, lambda: asyncio.to_thread(make))

    async def _source(self, stage: Stage, copy: Copy) -> tuple[Source, str]:
        """What is copied from, and how to name it."""
        if not copy.source_image:
            return self._context, "the build's context"
        name = copy.source_image
        other = find_stage(self._dockerfile.stages[: stage.index], name)
        if other is not None:
            files = await asyncio.to_thread(self._files, self._done[other.index])
            return files, f"stage {name!r}"
        image = await self._image(name, copy.line)
        return await asyncio.to_thread(ImageFiles, self._store, image), f"image {name!r}"

    def _hint(self, source: Source) -> str:
        if source is self._context and self._context.ignored:
            count = self._context.ignored
            return f"{count} name{' is' if count == 1 else 's are'} left out by .dockerignore"
        return ""

    # Section: layers

    def _files(self, state: State) -> ImageFiles:
        return ImageFiles(self._store, self._store.get(state.image) if state.image else None)

    def _pack(
        self, state: State, fill: Callable[[Layering], None], owner: Owner,
        image: ImageFiles | None = None,
    ) -> PackedLayer | None:  # fmt: skip
        """A layer over the state's image, or None when nothing is in it."""
        files = image or self._files(state)
        count = 0
        with pack_layer(self._store.blobs) as packer:

            def put(member: Any) -> None:
                nonlocal count
                count += 1
                packer.add(member)

            fill(Layering(files.tree, put, owner))
        return packer.layer if count else None

    async def _layer(
        self, state: State, instruction: Instruction, key: str,
        make: Callable[[], Any],
    ) -> State:  # fmt: skip
        """The state with a step's layer: from the cache, or made now and kept there."""
        if self._options.use_cache:
            image = await asyncio.to_thread(find_step, self._store, key)
            if image is not None:
                self._progress.cached()
                layers = await asyncio.to_thread(layers_of, self._store, image)
                changed = len(layers) > len(state.layers)
                after = replace(state, key=key, image=image.name, layers=layers)
                return after.remember(instruction, layer=changed)
        layer = await make()
        layers = (*state.layers, layer) if layer is not None else state.layers
        if layers:
            image = await asyncio.to_thread(
                add_image, self._store, step_name(key), _NEUTRAL, layers, key=key,
                source="a step of a build",
            )  # fmt: skip
            state = replace(state, image=image.name)
        self._progress.done()
        after = replace(state, key=key, layers=layers)
        return after.remember(instruction, layer=layer is not None)

    def _tell_unused(self) -> None:
        declared = {
            name
            for group in (
                self._dockerfile.arguments,
                *(s.instructions for s in self._dockerfile.stages),
            )
            for each in group
            if hasattr(each, "variables") and type(each).__name__ == "Arg"
            for name, _ in each.variables
        }
        unused = sorted(set(self._options.arguments) - declared - PROXIES)
        if unused:
            self._progress.say(f"these build arguments are not declared: {', '.join(unused)}")


def _archives(source: Source, found: list[Found]) -> list[Node]:
    """Of these, the files that ADD unpacks: tar archives, compressed or not."""
    archives = []
    for each in found:
        if not each.node.is_file:
            continue
        with source.open(each.node) as file:
            head = file.read(512)
        if compression_of(head) or head[257:262] == b"ustar":
            with source.open(each.node) as file:
                if _is_tar(file):
                    archives.append(each.node)
    return archives


def _is_tar(file: Any) -> bool:
    try:
        with Plain(file) as stream:
            head = stream.read(512)
    except ImageError:
        return False
    return len(head) == 512 and (head[257:262] == b"ustar" or not head.strip(b"\0"))


def _text_node(text: str) -> Node:
    import stat

    return Node(stat.S_IFREG | 0o644, size=len(text.encode()))
