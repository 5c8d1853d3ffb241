"""Which Flyte is meant, and how it is reached: TLS, proxies, and whom to believe."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from flytekitplugins.authagent import flyte_config
from flytekitplugins.authagent.asked import Asked
from flytekitplugins.authagent.config import Binding, Settings
from flytekitplugins.authagent.discovery import FlyteServer
from flytekitplugins.authagent.endpoint import parse
from flytekitplugins.authagent.flyte_config import Admin


def flyte_server(
    asked: Asked, binding: Binding | None, settings: Settings, environ: Mapping[str, str]
) -> FlyteServer | None:
    """
    The Flyte that may be asked how to authenticate, and how it is reached; `None` where nobody names one.

    Raises `ConfigError` for a Flyte configuration that cannot be used.
    """
    named = asked.endpoint or (binding.endpoint if binding else None) or asked.configured
    named = named or flyte_config.load(environ).admin.endpoint
    return reach(named, asked, binding, settings, environ) if named else None


def reach(
    named: str, asked: Asked, binding: Binding | None, settings: Settings, environ: Mapping[str, str]
) -> FlyteServer:
    """How the Flyte at `named` is reached; what is configured for another one does not count. Raises `ConfigError`."""
    config, endpoint = flyte_config.load(environ), parse(named)
    admin = config.admin if config.is_for(named) else Admin()
    said = (endpoint.insecure, asked.insecure, binding.insecure if binding else None, admin.insecure)
    return FlyteServer(
        endpoint,
        insecure=next((insecure for insecure in said if insecure is not None), False),
        ca_file=Path(admin.caCertFilePath) if admin.caCertFilePath else None,
        skip_verify=admin.insecureSkipVerify,
        proxy_command=admin.proxyCommand,
        proxy_command_source=config.said.get("proxyCommand", ""),
        plaintext=settings.plaintext,
    )
