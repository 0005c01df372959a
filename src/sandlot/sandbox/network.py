"""`sandbox.network`: what it reached, and what it may."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import TYPE_CHECKING, Any

from sandlot.errors import ConfigError, WrongState
from sandlot.network.flows import FlowRecord, follow_flows, read_flows
from sandlot.network.learning import smallest_rules
from sandlot.network.policy import Network
from sandlot.state.lock import FileLock
from sandlot.wire.messages import SetNetwork

if TYPE_CHECKING:
    from sandlot.guest.session import GuestSession
    from sandlot.sandbox.owner import Owner
    from sandlot.state.records import SandboxFolder


class SandboxNetwork:
    """The network of one sandbox, from whatever program; as `Sandbox.network`."""

    def __init__(
        self, folder: SandboxFolder, owner: Owner | None,
        session: Callable[[], Awaitable[GuestSession]],
    ) -> None:  # fmt: skip
        self._folder = folder
        self._owner = owner
        self._session = session

    @property
    def policy(self) -> Network:
        """What it may reach now."""
        stored = self._folder.record().network
        return Network.from_json(stored) if stored else Network.public()

    def flows(self) -> list[FlowRecord]:
        """What it reached and what it was refused, the oldest first.

        The newest thousand of this run and, from its file, as many of earlier ones as 8 MiB hold.
        """
        if self._owner is not None and self._owner.reach is not None:
            live = {(flow.time, flow.id): flow for flow in self._owner.reach.gateway.log.all()}
            kept = {(flow.time, flow.id): flow for flow in read_flows(self._folder.flows)}
            return [flow for _, flow in sorted({**kept, **live}.items())]
        return read_flows(self._folder.flows)

    async def follow(self) -> AsyncGenerator[FlowRecord, None]:
        """Every change of a flow, from the first that is kept, until the sandbox stops."""
        running = True
        for record in follow_flows(self._folder.flows):
            if record is not None:
                yield record
            elif not running:
                return
            else:
                await asyncio.sleep(0.1)  # another program writes the file
                running = self._folder.path.exists() and self._folder.run_state().running

    def learn(self) -> list[str]:
        """The smallest list of rules that lets through all that the sandbox has reached so far.

        Run it first under a wide policy, such as the default one. What was refused stays so.

        Example:
            rules = sb.network.learn()
            await sb.network.update(Network(allow=rules))
        """
        return smallest_rules(self.flows())

    def replace_secret(self, name: str, secret: object) -> None:
        """Give a secret another value, or source, while the sandbox runs. Its placeholder stays.

        Values that come from a variable, a file or a command are read again by themselves.

        Args:
            name: of one of its secrets.
            secret: as in `Sandbox.create`: `(value, host)`, `(value, [host, ...])` or a `Secret`.

        Raises:
            WrongState: another program runs it.
            ConfigError: it has no such secret.
        """
        from sandlot.secrets import as_secret

        reach = self._owner.reach if self._owner is not None else None
        if reach is None or reach.vault is None or name not in reach.vault.environment():
            if self._owner is None:
                raise WrongState(
                    "only the program that runs a sandbox can replace its secrets",
                    hint="take the value from a file or a command, which are read again",
                )
            raise ConfigError(f"the sandbox has no secret {name}")
        reach.vault.replace(name, as_secret(name, secret))

    async def update(self, network: Network) -> int:
        """Hold the sandbox to another policy: at once when it runs, from its next start otherwise.

        What goes on and is no longer allowed is cut; how many flows that were is returned.

        Raises:
            WrongState: it is just being started or changed by another program.

        Example:
            await sb.network.update(Network(allow=["packages.example"]))
        """
        if self._owner is not None and self._owner.alive:
            return self._owner.set_network(network)
        lock = FileLock.take(self._folder.lock_path)
        if lock is not None:  # nobody runs it
            try:
                record = self._folder.record()
                self._folder.write_record(dataclasses.replace(record, network=network.to_json()))
            finally:
                lock.release()
            return 0
        session = await self._session()
        answer: Any = (await session.ask(SetNetwork(policy=json.dumps(network.to_json()))))[0]
        return int(getattr(answer, "cut", 0))
