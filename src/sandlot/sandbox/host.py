"""What one program shares between its sandboxes: settings, engine, kernel, templates, images."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from sandlot.errors import BootError
from sandlot.sandbox.sizes import parse_size
from sandlot.settings import Settings
from sandlot.state.paths import StatePaths
from sandlot.state.records import SandboxFolders

# What is not needed to find a sandbox that runs is imported when it is.
if TYPE_CHECKING:
    from sandlot.engine.qemu.engine import QemuEngine
    from sandlot.guest.kernel import Kernel
    from sandlot.image import ImageStore
    from sandlot.sandbox.secrecy import Grants
    from sandlot.snapshot.store import SnapshotStore
    from sandlot.snapshot.template import Template, TemplateStore

Tell = Callable[[str], None]
DEFAULT_DISK = "4G"


class Host:
    """Made once per settings by `current`; everything in it is found when first needed."""

    _hosts: dict[Settings, Host] = {}

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.paths = StatePaths.of(settings)
        self.tell: Tell = lambda _: None
        self.grants: dict[str, Grants] = {}
        """What this program gave to the sandboxes that it made snapshots of, by the snapshot's id:
        no snapshot holds it, but what this program restores may have it again."""
        self._engine: QemuEngine | None = None
        self._kernel: Kernel | None = None
        self._templates: TemplateStore | None = None

    @classmethod
    def current(cls) -> Host:
        """The host as the environment describes it now."""
        settings = Settings.read()
        return cls._hosts.setdefault(settings, cls(settings))

    @property
    def images(self) -> ImageStore:
        """The images of this state directory."""
        from sandlot.image import ImageStore

        return ImageStore(self.paths.images)

    @property
    def sandboxes(self) -> SandboxFolders:
        """The sandboxes of this state directory."""
        return SandboxFolders(self.paths.sandboxes)

    @property
    def snapshots(self) -> SnapshotStore:
        """The snapshots of this state directory."""
        from sandlot.snapshot.store import SnapshotStore

        return SnapshotStore(self.paths.snapshots)

    async def engine(self) -> QemuEngine:
        """The engine, on the accelerator that works here."""
        if self._engine is None:
            from sandlot.engine.qemu.engine import QemuEngine

            self._engine = await QemuEngine.open(
                self.paths.cache, binary=self.settings.qemu, accelerator=self.settings.accelerator
            )
        return self._engine

    async def kernel(self) -> Kernel:
        """The guest's kernel."""
        if self._kernel is None:
            from sandlot.engine.qemu.engine import host_machine
            from sandlot.guest.kernel import find_kernel

            self._kernel = await find_kernel(
                self.paths.kernels, host_machine(), image=self.settings.kernel,
                modules=self.settings.kernel_modules, tell=lambda text: self.tell(text),
            )  # fmt: skip
        return self._kernel

    @property
    def templates(self) -> TemplateStore:
        """The templates of this state directory."""
        if self._templates is None:
            from sandlot.engine.qemu.engine import host_machine
            from sandlot.sandbox.disk import blank_disk
            from sandlot.snapshot.template import TemplateStore

            self._templates = TemplateStore(
                self.paths.templates, self.paths.kernels, host_machine(),
                lambda: blank_disk(self.paths.disks, parse_size(DEFAULT_DISK, "disk")),
                tell=lambda text: self.tell(text),
            )  # fmt: skip
        return self._templates

    async def template(self, memory: int, cpus: int) -> tuple[QemuEngine, Template]:
        """The engine and the template for machines of this size.

        When guests do not boot on the accelerator that passed the probe, it is given up until the
        host's next boot, and the next one is taken.
        """
        engine, kernel = await self.engine(), await self.kernel()
        while True:
            try:
                template = await self.templates.get(engine, kernel, memory=memory, cpus=cpus)
                return engine, template
            except BootError as error:
                weaker = engine.without(
                    engine.accelerator, f"a guest did not boot: {error.message}"
                )
                if weaker is None:
                    raise
                self.tell(
                    f"{engine.accelerator} does not boot a guest here, using {weaker.accelerator}"
                )
                engine = self._engine = weaker
