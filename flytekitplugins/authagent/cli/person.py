"""The login that a command is about: whose, at which Flyte, and how it is made."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any

from flytekitplugins.authagent import binding, config, default_order
from flytekitplugins.authagent.asked import Asked
from flytekitplugins.authagent.context import from_environment
from flytekitplugins.authagent.default_order import Unconfigured
from flytekitplugins.authagent.errors import ConfigError
from flytekitplugins.authagent.providers import person
from flytekitplugins.authagent.providers.person import PersonProvider
from flytekitplugins.authagent.reach import flyte_server
from flytekitplugins.authagent.specs import DeviceSpec, KeyringSpec, LoginSpec, PkceSpec, ProviderSpec


def provider(endpoint: str | None = None, *, kind: str | None = None, patience: float | None = None) -> PersonProvider:
    """
    The provider that keeps the login for `endpoint`, or for the Flyte that is configured.

    `kind` is `pkce` or `device`, `None` for what is configured. Raises `ConfigError` where the configuration has no
    place for a person, or names no Flyte.
    """
    settings, asked = config.load(os.environ), Asked(context=from_environment(os.environ), endpoint=endpoint)
    matching = binding.select(settings.bindings or (), asked.context)
    if matching is not None and isinstance(matching.provider, KeyringSpec | LoginSpec):
        found: ProviderSpec | Unconfigured = matching.provider
    elif settings.bindings is None or kind:
        name = "flyte" if endpoint is None and not kind else kind or "pkce"
        found = default_order.spec(name, settings, os.environ, wanted=endpoint)
        if isinstance(found, Unconfigured) and name == "flyte":
            found = default_order.spec("login", settings, os.environ)
    else:
        raise ConfigError(
            "no binding here has a person's login", hint="use --browser or --device, or write one with kind: pkce"
        )
    spec = _as(kind, found, patience)
    server = flyte_server(asked, matching, settings, os.environ)
    if server is None and not spec.is_complete:
        raise ConfigError("no Flyte is configured", hint="name one with --endpoint, or write ~/.flyte/config.yaml")
    made = person.provider(spec, server, in_pod=settings.in_pod)
    return replace(made, spec=spec)


def _as(kind: str | None, found: ProviderSpec | Unconfigured, patience: float | None) -> PkceSpec | DeviceSpec:
    if isinstance(found, Unconfigured):
        raise ConfigError(found.absent, hint=found.remedy)
    if not isinstance(found, KeyringSpec | LoginSpec):
        raise ConfigError(
            f"what is configured authenticates by {found.kind}, which needs nobody to log in",
            hint="use --browser or --device to log in all the same",
        )
    options: dict[str, Any] = found.model_dump(exclude={"kind"})
    if patience:
        options["patience"] = patience
    if kind == "device" or (kind is None and isinstance(found, DeviceSpec)):
        options.pop("redirect_uri", None)
        return DeviceSpec(**options)
    return PkceSpec(**options)
