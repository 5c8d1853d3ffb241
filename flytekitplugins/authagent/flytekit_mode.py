"""Whether flytekit's own clients, `pyflyte` among them, authenticate by this package."""

from __future__ import annotations

from flytekitplugins.authagent.flyte_config import FlyteConfig

MODE = "authagent"
VARIABLE = "FLYTE_CREDENTIALS_AUTH_MODE"

EVAL = 'eval "$(authagent env)"'
FOR_GOOD = "authagent login --write-config"


def is_on(config: FlyteConfig) -> bool:
    """Whether the variable, or `authType` in Flyte's configuration, says so and no client secret overrules it."""
    return config.by_authagent and not config.has_secret
