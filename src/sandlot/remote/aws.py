"""Credentials, region and endpoint as the tools of AWS find them: by their own library.

Environment, `~/.aws/credentials` and `~/.aws/config` with AWS_PROFILE, programs and logins named
there, and the roles of containers and machines.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sandlot.errors import ConfigError, RemoteRefused

FRESH = timedelta(minutes=5)
"""How long credentials that expire are used before they are asked for again."""

Provider = Callable[[], Coroutine[Any, Any, dict[str, object]]]


@dataclass(frozen=True)
class AwsSettings:
    """What was found. Empty: nothing said about it."""

    region: str
    endpoint: str
    authorities: str
    provider: Provider


def missing_extra() -> ConfigError:
    """What to raise when the packages of the extra are not there."""
    return ConfigError("s3:// needs the package obstore", hint="pip install 'sandlot[s3]'")


def find_aws_settings(address: str) -> AwsSettings:
    """Ask the library. It may ask a machine's metadata service, so this runs in a thread.

    Raises RemoteRefused when there are no credentials, or the profile does not exist.
    """
    try:
        import botocore.exceptions
        import botocore.session
    except ImportError as error:
        raise missing_extra() from error
    session = botocore.session.Session()
    try:
        credentials = session.get_credentials()
        scoped = session.get_scoped_config()
        services = session.full_config.get("services", {}).get(scoped.get("services", ""), {})
        region = session.get_config_variable("region") or ""
        authorities = session.get_config_variable("ca_bundle") or ""
    except (botocore.exceptions.BotoCoreError, botocore.exceptions.ClientError) as error:
        raise RemoteRefused(
            f"{address} cannot be used: {_line(error)}", address=address,
            hint="mend ~/.aws/config, or choose another profile with AWS_PROFILE",
        ) from error  # fmt: skip
    if credentials is None:
        raise RemoteRefused(
            f"there are no credentials for {address}", address=address,
            hint="run `aws configure`, or set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
        )  # fmt: skip
    named = services.get("s3", {}) if isinstance(services, dict) else {}
    endpoint = (named.get("endpoint_url") if isinstance(named, dict) else "") or scoped.get(
        "endpoint_url", ""
    )

    def ask() -> dict[str, object]:
        try:
            found = credentials.get_frozen_credentials()
        except (botocore.exceptions.BotoCoreError, botocore.exceptions.ClientError) as error:
            raise PermissionError(_line(error)) from error
        lasts = hasattr(credentials, "refresh_needed")
        return {
            "access_key_id": found.access_key, "secret_access_key": found.secret_key,
            "token": found.token, "expires_at": datetime.now(UTC) + FRESH if lasts else None,
        }  # fmt: skip

    async def provider() -> dict[str, object]:
        return await asyncio.to_thread(ask)

    return AwsSettings(region, endpoint, authorities, provider)


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
