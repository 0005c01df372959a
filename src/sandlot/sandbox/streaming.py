"""The part of `Sandbox` that streams: its changes to a remote, and those of another one from there."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from sandlot.errors import ConfigError, SandboxNotFound
from sandlot.sandbox.arguments import flag
from sandlot.sandbox.branching import Branching
from sandlot.sandbox.ending import failed
from sandlot.sandbox.sizes import parse_duration

if TYPE_CHECKING:
    from sandlot.remote.remote import Remote
    from sandlot.remote.versions import Pushed
    from sandlot.sandbox.following import Follow
    from sandlot.sandbox.live import LivePush

INTERVAL = "30s"
LOOK = "5s"
KEEP = 5


class Streaming(Branching):
    """Base of `Sandbox`: `push_live` and `follow`."""

    def push_live(
        self, to: str | Remote | None = None, name: str | None = None, *,
        interval: float | str | None = None, after_exec: bool = False, memory: bool = False,
        keep: int = KEEP, force: bool = False, level: int = 1,
        told: Callable[[Pushed], object] | None = None,
        progress: Callable[[str, float | None], object] | None = None,
    ) -> LivePush:  # fmt: skip
        """Push its changes as they come, so that another machine can go on from the last point.

            async with sb.push_live("s3://bucket/work", interval="30s") as live:
                await sb.exec("make")
            print(live.last.version)

        Entering pushes a version, leaving the last one, unless nothing was written since. Between
        them each point is a push of what changed; there is none when nothing was written to the
        disk. A push that fails is told, and tried again at the next point; the sandbox is left
        alone. It is no use of the sandbox, which may become idle meanwhile, and sleep. Works from
        any program, while the sandbox runs.

        Args:
            to: an address, ADDRESS#NAME, the name of a remote, or a `Remote`; the default remote
                when None.
            name: what it is called there; as here when None.
            interval: seconds from one point to the next, or text such as `"30s"`; that when None
                and `after_exec` is not asked.
            after_exec: a point when a program has ended that this or another program started in the
                sandbox. Those that end while one is pushed have one point together.
            memory: its programs as they run too. Each point is then a version, also of one that is
                idle.
            keep: how many versions of the name to keep.
            force: push over what this did not come from, the first time.
            level: of the compression, from 1 to 19.
            told: called with each version that was pushed.
            progress: called with `push` and the fraction that is done.

        Raises:
            ConfigError: an argument cannot be.
            WrongState: it does not run; when the block is entered, as all that follows.
            RemoteConflict: somebody else pushed under this name. Later, that ends the streaming, and
                is raised when the block is left.
            KeyMissing, RemoteError: as `push`; when the block is left, if the last version could not
                be pushed.
        """
        from sandlot.remote.remote import target
        from sandlot.sandbox.live import LivePush

        flag(memory, "memory")
        flag(after_exec, "after_exec")
        if interval is None and not after_exec:
            interval = INTERVAL
        remote, chosen = target(to, name)
        return LivePush(
            self, remote, chosen, interval=parse_duration(interval, "interval"),
            after_exec=after_exec, memory=memory, keep=keep, force=force, level=level, told=told,
            progress=progress,
        )  # fmt: skip

    @classmethod
    def follow(
        cls, source: str = "", name: str | None = None, *, remote: str | Remote | None = None,
        interval: float | str = LOOK, keep: bool = False,
        progress: Callable[[str, float | None], object] | None = None,
    ) -> Follow:  # fmt: skip
        """A sandbox to look into that stands at the newest version of one that runs elsewhere.

            async with Sandbox.follow("web") as follow:
                async for sb in follow:         # now, and whenever a version has come
                    print((await sb.exec("tail -n 3 /var/log/app.log")).text)

        It is a machine of its own with the pushed disk. Nothing can be written to its root (EROFS),
        none of what ran elsewhere runs in it, and it has no network, no secrets, no volumes, no
        published ports and no plugins. When a new version has come, which is fetched as far as it
        differs, another one takes its place under its name: programs that run in the old one end.
        Leaving the block removes it.

        Args:
            source: NAME; ADDRESS#NAME; or an address where one sandbox is.
            name: what it is called here; as it was when None.
            remote: a `Remote`, its name or its address; the default one when None.
            interval: seconds, or text such as `"5s"`, from one look at the remote to the next. A
                look is one small read.
            keep: leave it here at the end, stopped.
            progress: called with `pull` and the fraction that is done.

        Raises:
            NameTaken, ConfigError
            RemoteNotFound: nothing was pushed under the name.
            RemoteDamaged: what the remote gives is not what was pushed, or older than what was seen.
            ResourceError: there is no room.
        """
        from sandlot.remote.remote import origin
        from sandlot.sandbox.following import Follow

        flag(keep, "keep")
        opened, place = origin(source, remote)
        if place.version is not None:
            raise ConfigError(
                f"a version of {place.name!r} does not change",
                hint=f"follow the name, or pull it: `sandlot pull {place.name}@{place.version}`",
            )
        return Follow(
            opened, place.name, name, interval=parse_duration(interval, "interval") or 0.0,
            keep=keep, progress=progress,
        )  # fmt: skip

    async def _disk_mark(self) -> str:
        """What stands for the disk now (marking.py); empty when its programs stand still."""
        from sandlot.sandbox.door import ask_to_save
        from sandlot.sandbox.marking import mark

        if self._owner is not None and self._owner.alive:
            return await mark(self._owner)
        async with ask_to_save(await self._session(), {"mark": True}) as answer:
            return str(answer["mark"])

    async def _as_it_ended(self) -> Streaming | None:
        """The sandbox when it has ended, however it was found; None if it is gone, or its machine
        died, so that its disk is as after a power cut."""
        await self.wait()
        try:
            folder = self._host.sandboxes.find(self.id)
            record = folder.record()
        except SandboxNotFound:
            return None
        if record.id != self.id or failed(folder.run_state()):
            return None
        found = type(self)(self._host, folder, record)
        found._plugins = self._plugins
        return found
