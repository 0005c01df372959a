"""Placeholders: what the guest holds in place of a value.

One looks like the value, so that programs which check the form of a key accept it: a prefix that
is public knowledge, the same length, the same kind of characters. All else is random, and it has
at least 119 random bits, so that it is found by exact match and never by chance. Its characters
are letters, digits, `-`, `_` and `.`: no encoder of URLs, JSON or forms changes them.
"""

from __future__ import annotations

import re
import secrets
import string
import uuid
from collections.abc import Iterable

MAX_LENGTH = 256
"""Longer values get a placeholder of this length: streams hold back so much at most."""

PUBLIC_PREFIXES = (
    "sk-proj-", "sk-svcacct-", "sk-admin-", "sk-ant-api03-", "sk-ant-admin01-", "sk-ant-oat01-",
    "sk-ant-", "sk-or-v1-", "sk-lf-", "pk-lf-", "sk-", "sk_live_", "sk_test_", "rk_live_",
    "rk_test_", "pk_live_", "pk_test_", "whsec_", "sk_",
    "github_pat_", "ghp_", "gho_", "ghu_", "ghs_", "ghr_", "glpat-", "gldt-", "glrt-", "glcbt-",
    "xoxb-", "xoxp-", "xoxa-", "xoxe.xoxp-", "xapp-", "AKIA", "ASIA", "AIza", "ya29.", "hf_",
    "npm_", "pypi-", "SG.", "key-", "dop_v1_", "shpat_", "shpss_", "gsk_", "r8_", "tvly-", "pplx-",
    "xai-", "fw_", "nvapi-", "lin_api_", "lin_oauth_", "ntn_", "secret_", "figd_", "dckr_pat_",
    "e2b_", "vercel_", "sntrys_", "sntryu_", "glsa_", "hvs.", "hvb.", "tskey-api-", "tskey-auth-",
    "fo1_", "rnd_", "NRAK-", "phc_", "phx_", "sbp_", "sb_secret_", "jina_", "csk-",
    "together_", "wandb_v1_", "co_", "pat-na1-", "pat-eu1-", "EAA", "eyJ",
)  # fmt: skip
"""Prefixes that tell a key's maker and nothing else, longest match first."""

_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_ALPHABETS = (
    ("0123456789abcdef", 32),
    ("0123456789ABCDEF", 32),
    (string.ascii_lowercase + string.digits, 24),
    (string.ascii_uppercase + string.digits, 24),
    (string.ascii_letters + string.digits, 20),
    (string.ascii_letters + string.digits + "-_", 20),
)
"""Kinds of characters, each with how many of them make it unguessable."""


def make_placeholder(value: bytes | None, taken: Iterable[str] = ()) -> str:
    """A fresh placeholder of the form of this value, not inside of one of `taken` nor around it.

    Of `value` only a public prefix, the length and the kind of its characters are used.
    """
    others = list(taken)
    text = value.decode("utf-8", "replace") if value else "x" * 32
    while True:
        made = _make(text)
        clash = any(made in other or other in made for other in others)
        if not clash and (value is None or made not in text):
            return made


def _make(text: str) -> str:
    if _UUID.fullmatch(text):
        return str(uuid.uuid4()) if text.islower() else str(uuid.uuid4()).upper()
    prefix = max((p for p in PUBLIC_PREFIXES if text.startswith(p)), key=len, default="")
    rest = text[len(prefix) :]
    alphabet, enough = next(
        ((letters, count) for letters, count in _ALPHABETS if set(rest) <= set(letters)),
        _ALPHABETS[4],
    )
    if rest.isdigit():  # few digits would be guessed, and numbers are changed by programs
        alphabet, enough = _ALPHABETS[4]
    length = max(enough, min(len(rest), MAX_LENGTH - len(prefix)))
    ends = alphabet.strip("-_")
    middle = "".join(secrets.choice(alphabet) for _ in range(length - 2))
    return prefix + secrets.choice(ends) + middle + secrets.choice(ends)
