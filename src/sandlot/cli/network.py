"""`sandlot network`: what a policy lets through, and why."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import click

from sandlot.cli.options import POLICY_FLAGS, Whole, network_of, peers_of, policy_options
from sandlot.cli.output import as_json

if TYPE_CHECKING:
    from sandlot.network.flows import FlowRecord
    from sandlot.network.policy import Network

REFUSED = 1
# Stands for the host where no sandbox tells its addresses.
_SOME_HOST = "192.0.0.8"


class Networks(Whole):
    """Docker's words about networks, of which there are none to make."""

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        found = super().get_command(ctx, cmd_name)
        if found is None and cmd_name in _DOCKERS:
            from sandlot.errors import ConfigError

            raise ConfigError(
                f"there is no `sandlot network {cmd_name}`: sandboxes share no networks",
                hint=_DOCKERS[cmd_name],
            )
        return found


_DOCKERS = {
    "ls": "`sandlot ps` lists sandboxes, `sandlot network show NAME` what one may reach",
    "inspect": "`sandlot network show NAME` says what a sandbox may reach",
    "create": "say what a sandbox may reach with --allow, --deny and --network of `sandlot run`",
    "connect": "`sandlot network set NAME --add --allow RULE` lets a sandbox reach more",
    "disconnect": "`sandlot network set NAME --network none` takes all of it away",
    "rm": "a policy goes with its sandbox",
    "prune": "policies go with their sandboxes; `sandlot prune` removes other leftovers",
}


@click.group(
    cls=Networks,
    epilog="Example: sandlot network explain --allow '*.packages.example:443' files.packages.example",
)
def network() -> None:
    """What sandboxes may reach: ask, change it, learn it."""


@network.command(
    epilog="Examples: sandlot network explain --allow api.example.com api.example.com:443; "
    "sandlot network explain --resolves-to 10.0.0.5 db.example.com:5432"
)
@click.argument("destination")
@policy_options
@click.option("--sandbox", metavar="NAME", help="By the policy of this sandbox.")
@click.option(
    "--resolves-to",
    multiple=True,
    metavar="ADDRESS",
    help="What the name leads to; some public address otherwise.",
)
@click.option("--json", "json_", is_flag=True, help="As JSON, with every step.")
def explain(
    destination: str, resolves_to: tuple[str, ...], json_: bool, sandbox: str | None, **options: Any
) -> int:  # fmt: skip
    """Say whether a policy lets a DESTINATION through, by which rule, and what would open it.

    DESTINATION is NAME:PORT, ADDRESS:PORT, host:PORT, with /udp for datagrams, or a URL. Nothing is
    looked up and nothing is sent. The exit status is 0 when it is allowed and 1 when it is refused.
    """
    from ipaddress import ip_address

    from sandlot.network.explain import explain as explained
    from sandlot.network.policy import Network

    given = network_of(options)
    if sandbox is not None:
        if given is not None:
            raise click.UsageError("--sandbox cannot be combined with rules")
        given = policy_of(sandbox)
    policy = (given or Network.public()).compile([ip_address(_SOME_HOST)])
    found = explained(policy, destination, resolves_to)
    verdict = found.verdict
    if json_:
        as_json(found.to_json())
    else:
        click.echo(f"{'allowed' if verdict.allowed else 'refused'}: {found.destination}")
        click.echo(f"rule: {verdict.rule}")
        click.echo(f"reason: {verdict.reason}")
        if verdict.hint:
            click.echo(f"hint: {verdict.hint}")
    return 0 if verdict.allowed else REFUSED


def policy_of(name: str) -> Network:
    """What a sandbox may reach, by its record."""
    from sandlot.network.policy import Network
    from sandlot.sandbox.listing import folders

    stored = folders().find(name).record().network
    return Network.from_json(stored) if stored else Network.public()


@network.command(epilog="Examples: sandlot network show box; sandlot network show --json box")
@click.argument("name")
@click.option("--json", "json_", is_flag=True, help="As JSON.")
def show(name: str, json_: bool) -> None:
    """Show the policy of a sandbox."""
    policy = policy_of(name).to_json()
    if json_:
        as_json(policy)
        return
    for verb in ("allow", "deny"):
        for rule in policy[verb]:
            click.echo(f"{verb} {rule}")
    click.echo(f"default {policy['default']}")
    for name, sandboxes in policy.get("peers", {}).items():
        click.echo(f"peer {name}={','.join(sandboxes)}")
    if policy["hidden_names"]:
        click.echo("hidden names pass")


@network.command(
    "set",
    epilog="Examples: sandlot network set box --allow packages.example --allow files.example.com:443; "
    "sandlot network set box --network deny",
)
@click.argument("name")
@policy_options
@click.option("--add", is_flag=True, help="Add the rules to those that it has.")
def set_(name: str, add: bool, **options: Any) -> None:
    """Change what a sandbox may reach: at once when it runs, and what it no longer may is cut."""
    from sandlot.network.policy import Network
    from sandlot.sandbox.sandbox import Sandbox

    if not any(options[flag] for flag in POLICY_FLAGS):
        raise click.UsageError("say what it may reach with --allow, --deny or --network")

    async def work() -> int:
        sandbox = await Sandbox.get(name)
        wanted = network_of(options)
        if add:
            before = sandbox.network.policy
            wanted = Network(
                [*before.allow, *options["allow"]], [*before.deny, *options["deny"]],
                options["network"] or before.default,
                hidden_names=options["hidden_names"] or before.hidden_names,
                ceiling=before.ceiling, peers={**before.peers, **peers_of(options["peer"])},
            )  # fmt: skip
        return await sandbox.network.update(wanted)

    if cut := asyncio.run(work()):
        click.echo(f"{cut} connection{'s were' if cut > 1 else ' was'} cut", err=True)


@network.command(
    epilog="Examples: sandlot network learn box; "
    "sandlot run --name box demo -- sh -c 'pip download x'; sandlot network learn box"
)
@click.argument("name")
@click.option("--json", "json_", is_flag=True, help="As a JSON list.")
def learn(name: str, json_: bool) -> None:
    """Print the smallest list of --allow rules for all that a sandbox has reached so far.

    Run it first under a wide policy, such as the default one.
    """
    from sandlot.sandbox.sandbox import Sandbox

    rules = asyncio.run(Sandbox.get(name)).network.learn()
    if json_:
        as_json(rules)
    else:
        for rule in rules:
            click.echo(f"--allow {rule}")


@click.command(
    epilog="Examples: sandlot flows box; sandlot flows --denied box; sandlot flows -f --json box"
)
@click.option("-f", "--follow", is_flag=True, help="Go on until the sandbox stops.")
@click.option("--har", is_flag=True, help="The requests that were looked into, as an HTTP archive.")
@click.option("--denied", is_flag=True, help="Only what was refused or cut.")
@click.option("--json", "json_", is_flag=True, help="One JSON object for each.")
@click.argument("name")
def flows(follow: bool, denied: bool, har: bool, json_: bool, name: str) -> None:
    """Show what a sandbox reached, what it was refused, by which rule, and the rule to add."""
    import json

    from sandlot.network.flows import read_flows
    from sandlot.sandbox.sandbox import Sandbox

    def show(record: FlowRecord) -> None:
        if denied and record.verdict not in ("denied", "cut"):
            return
        click.echo(json.dumps(record.to_json()) if json_ else _line(record))

    async def follow_all() -> None:
        async for record in (await Sandbox.get(name)).network.follow():
            show(record)

    if follow:
        asyncio.run(follow_all())
        return
    from sandlot.sandbox.listing import folders

    found = read_flows(folders().find(name).flows)
    if har:
        from importlib.metadata import version

        from sandlot.network.requests import archive

        as_json(archive(found, version("sandlot")))
        return
    for record in found:
        show(record)


def _line(record: FlowRecord) -> str:
    from datetime import datetime

    when = datetime.fromtimestamp(record.time).strftime("%H:%M:%S")
    what = f"{when}  {record.verdict:6}  {record.protocol:3}  {record.destination}"
    if record.name and record.address:
        what += f" ({record.address})"
    if record.pid:
        what += f"  by {record.process}[{record.pid}]"
    if record.verdict in ("denied", "cut", "failed"):
        what += f"  {record.reason}"
        return what + (f"  hint: {record.hint}" if record.hint else "")
    if record.hint:
        what += f"  {record.reason}  hint: {record.hint}"
    if record.misused:
        what += f"  left as it was: the placeholder of {', '.join(record.misused)}"
    used = f"  secrets: {', '.join(record.secrets)}" if record.secrets else ""
    return f"{what}  sent {record.sent}, received {record.received}{used}  {record.rule}"


@click.command(epilog="Examples: sandlot port web; sandlot port web 8000")
@click.argument("name")
@click.argument("port", required=False)
@click.option("--json", "json_", is_flag=True, help="As a JSON list.")
def port(name: str, port: str | None, json_: bool) -> None:
    """Show where the published ports of a running sandbox are on the host."""
    from sandlot.errors import ConfigError
    from sandlot.sandbox.listing import folders

    state = folders().find(name).run_state()
    found = state.ports if state.running else []
    if port is not None:
        number, _, protocol = port.partition("/")
        found = [
            each for each in found
            if str(each["port"]) == number and each["protocol"] == (protocol or "tcp")
        ]  # fmt: skip
        if not found and not state.running:
            raise ConfigError(
                f"sandbox {name!r} is not running",
                hint="its ports are published while it runs",
            )
        if not found:
            raise ConfigError(
                f"port {port} of sandbox {name!r} is not published",
                hint="publish it with -p when the sandbox is made",
            )
    if json_:
        as_json(found)
        return
    for each in found:
        address = f"[{each['address']}]" if ":" in each["address"] else each["address"]
        where = f"{address}:{each['host_port']}"
        inner = f"{each['port']}/{each['protocol']}"
        click.echo(where if port is not None else f"{inner} -> {where}")
