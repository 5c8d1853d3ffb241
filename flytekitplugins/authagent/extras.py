"""The extras of the package, and whether what each brings is installed."""

from __future__ import annotations

from importlib.util import find_spec

from flytekitplugins.authagent.errors import ConfigError

_AGENT = ("httptools", "prometheus_client", "uvloop")
_HUB = (*_AGENT, "alembic", "cryptography", "joserfc", "psycopg", "sqlalchemy")

MODULES = {"agent": _AGENT, "hub": _HUB, "sandbox": _HUB}
"""What is imported of each extra (setup.cfg has the distributions)."""


def need(extra: str, what: str) -> None:
    """Raise `ConfigError` that names the extra where a module of it, which `what` needs, is not installed."""
    missing = [module for module in MODULES[extra] if find_spec(module) is None]
    if missing:
        raise ConfigError(
            f"{what} needs {missing[0]}, which is not installed",
            hint=f"pip install 'flytekitplugins-authagent[{extra}]'",
        )
