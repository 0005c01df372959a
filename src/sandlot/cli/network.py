"""`sandlot network`: what a policy lets through, and why."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from sandlot.cli.output import as_json

if TYPE_CHECKING:
    from sandlot.network.policy import Network

REFUSED = 1
# Stands for the host where no sandbox tells its addresses.
_SOME_HOST = "192.0.0.8"


def network_of(options: dict[str, Any]) -> Network:
    """The policy that --network, --allow and --deny say."""
    from sandlot.network.policy import Network

    return Network(options["allow"] or None, options["deny"], options["network"])


@click.group(epilog="Example: sandlot network explain --allow '*.pypi.org:443' files.pypi.org")
def network() -> None:
    """Ask what a network policy lets through."""


@network.command(
    epilog="Examples: sandlot network explain --allow api.example.com api.example.com:443; "
    "sandlot network explain --resolves-to 10.0.0.5 db.example.com:5432"
)
@click.argument("destination")
@click.option("--allow", multiple=True, metavar="RULE", help="Allow this, and refuse the rest.")
@click.option("--deny", multiple=True, metavar="RULE", help="Refuse this.")
@click.option(
    "--network",
    type=click.Choice(["deny", "public", "open"]),
    help="What becomes of the rest; deny with --allow, public otherwise.",
)
@click.option(
    "--resolves-to",
    multiple=True,
    metavar="ADDRESS",
    help="What the name leads to; some public address otherwise.",
)
@click.option("--json", "json_", is_flag=True, help="As JSON, with every step.")
def explain(destination: str, resolves_to: tuple[str, ...], json_: bool, **options: Any) -> int:
    """Say whether a policy lets a DESTINATION through, by which rule, and what would open it.

    DESTINATION is NAME:PORT, ADDRESS:PORT, host:PORT, with /udp for datagrams, or a URL. Nothing is
    looked up and nothing is sent. The exit status is 0 when it is allowed and 1 when it is refused.
    """
    from ipaddress import ip_address

    from sandlot.network.explain import explain as explained

    policy = network_of(options).compile([ip_address(_SOME_HOST)])
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
