"""The places of a request in which a placeholder is replaced.

By default only header fields that exist to carry credentials. A server may show any other place
to others, or answer with it: a prompt, a search term, a file. There a placeholder stays as it is.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from sandlot.errors import ConfigError

CREDENTIAL_FIELDS = frozenset(
    {
        # RFC 9110, 11.6.2: basic, bearer, and the schemes in AUTHORIZATION_SCHEMES
        "authorization",
        # no standard, but the names that most makers of interfaces chose
        "x-api-key", "api-key", "apikey", "x-apikey", "x-api-token", "api-token",
        "x-auth-token", "x-access-token", "x-auth-key", "x-app-key", "x-token", "x-secret-key",
        # names of single makers, each documented by them as the place for the key
        "x-goog-api-key",  # Google
        "ocp-apim-subscription-key", "x-functions-key",  # Azure
        "private-token", "job-token", "deploy-token",  # GitLab
        "x-vault-token",  # HashiCorp Vault
        "dd-api-key", "dd-application-key",  # Datadog
        "xi-api-key",  # ElevenLabs
        "x-subscription-token",  # Brave Search
        "x-rapidapi-key", "x-algolia-api-key", "x-figma-token", "x-honeycomb-team",
        "x-shopify-access-token", "x-postmark-server-token", "x-postmark-account-token",
        "x-cisco-meraki-api-key", "x-jfrog-art-api", "x-nuget-apikey", "x-plex-token",
        "x-typesense-api-key", "x-meili-api-key", "x-cmc_pro_api_key", "x-mbx-apikey",
        "x-redmine-api-key", "x-insert-key", "x-license-key", "circle-token", "fastly-key",
        "x-consul-token", "x-nomad-token",
    }
)  # fmt: skip
"""Header fields, in lower case, that are replaced in when nothing is said."""

AUTHORIZATION_SCHEMES = frozenset(
    {"bearer", "basic", "token", "bot", "apikey", "api-key", "key", "oauth", "splunk", "geniekey",
     "ssws", "klaviyo-api-key", "deepl-auth-key", "discogs", "pveapitoken"}
)  # fmt: skip
"""Schemes of Authorization whose credential is the key as it stands. Digest, HAWK, signatures of
AWS and the like send only what was computed from a key, which a placeholder cannot be part of."""

FORBIDDEN_FIELDS = frozenset(
    {
        "host", "content-length", "transfer-encoding", "connection", "upgrade", "te", "trailer",
        "keep-alive", "proxy-connection", "expect", "content-encoding", "content-type",
        "http2-settings", "accept-encoding",
    }
)  # fmt: skip
"""Header fields that steer the connection: a secret cannot stand there."""

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9a-z-]+")


@dataclass(frozen=True)
class Places:
    """Where one secret is replaced. `fields` are names in lower case."""

    credentials: bool = False
    any_field: bool = False
    fields: frozenset[str] = field(default_factory=frozenset)
    any_parameter: bool = False
    parameters: frozenset[str] = field(default_factory=frozenset)
    path: bool = False
    body: bool = False

    @classmethod
    def parse(cls, inject: str | Iterable[str]) -> Places:
        """Read what a user gives as `inject`.

        Raises:
            ConfigError: a place that there is not.
        """
        words = [inject] if isinstance(inject, str) else list(inject)
        fields: set[str] = set()
        parameters: set[str] = set()
        plain: set[str] = set()
        for word in words:
            if not isinstance(word, str):
                raise ConfigError(f"`inject` holds text, not {type(word).__name__}")
            kind, colon, name = word.partition(":")
            if colon and kind == "header":
                fields.add(_field(name))
            elif colon and kind == "query" and name:
                parameters.add(name)
            elif word in ("credentials", "headers", "query", "path", "body"):
                plain.add(word)
            else:
                raise ConfigError(
                    f"a secret cannot be put into `{word}`",
                    hint="inject: credentials, header:NAME, headers, query:NAME, query, path, body",
                )
        if not words:
            raise ConfigError("`inject` is empty", hint="leave it out for the credential fields")
        return cls(
            "credentials" in plain, "headers" in plain, frozenset(fields), "query" in plain,
            frozenset(parameters), "path" in plain, "body" in plain,
        )  # fmt: skip

    def words(self) -> list[str]:
        """As a user would write it; `parse` reads it back."""
        flags = {
            "credentials": self.credentials, "headers": self.any_field, "query": self.any_parameter,
            "path": self.path, "body": self.body,
        }  # fmt: skip
        return [
            *(word for word, on in flags.items() if on),
            *(f"header:{name}" for name in sorted(self.fields)),
            *(f"query:{name}" for name in sorted(self.parameters)),
        ]

    def has_field(self, name: str) -> bool:
        """Whether it is replaced in this header field (a name in lower case)."""
        if name in self.fields:
            return True
        if name in FORBIDDEN_FIELDS:
            return False
        return self.any_field or (self.credentials and name in CREDENTIAL_FIELDS)

    def has_parameter(self, name: str) -> bool:
        """Whether it is replaced in this parameter of the query."""
        return self.any_parameter or name in self.parameters


def _field(name: str) -> str:
    lower = name.strip().lower()
    if not _TOKEN.fullmatch(lower) or lower in FORBIDDEN_FIELDS:
        raise ConfigError(f"a secret cannot be put into the header field `{name}`")
    return lower
