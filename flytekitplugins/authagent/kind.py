"""The names of the providers, as configuration and code spell them."""

from __future__ import annotations

import re

from flytekitplugins.authagent.errors import ConfigError
from flytekitplugins.authagent.suggestion import did_you_mean

KINDS = (
    "agent",
    "file",
    "env",
    "api_key",
    "client_credentials",
    "keyring",
    "command",
    "device",
    "pkce",
    "token_exchange",
    "passthrough",
)
"""Those that this release has."""


def check(kind: object, where: str) -> str:
    """`kind`, if it is a provider of this release. Raises `ConfigError` naming it and `where` it was written."""
    if isinstance(kind, str) and kind in KINDS:
        return kind
    # A token passed in the place of a name must not be repeated in an error.
    shown = repr(kind) if isinstance(kind, str) and re.fullmatch(r"[A-Za-z_\-]{1,32}", kind) else "that name"
    meant = did_you_mean(kind, KINDS) if isinstance(kind, str) and shown != "that name" else ""
    raise ConfigError(f"{where}: there is no provider {shown}{meant}", hint=f"one of {', '.join(KINDS)}")
