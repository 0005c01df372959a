"""Secrets: values that a sandbox uses but never holds.

The guest's variable holds a placeholder (`placeholder`); the value comes from a `source` when it
is needed, and stands in for the placeholder (`substitution`, `bodies`) only in requests to the
hosts and in the places that the `secret` names.
"""

from sandlot.secrets.secret import Secret, as_secret
from sandlot.secrets.substitution import Bound, Substitution
from sandlot.secrets.vault import Vault

__all__ = ["Bound", "Secret", "Substitution", "Vault", "as_secret"]
