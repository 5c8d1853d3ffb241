"""`authagent status`: which provider serves this place, from where, and until when; never the token."""

from __future__ import annotations

import argparse
import os
import time
from dataclasses import asdict
from typing import Any

from flytekitplugins.authagent import config, flyte_config
from flytekitplugins.authagent.asked import Asked
from flytekitplugins.authagent.cli import agent_facts, option, person
from flytekitplugins.authagent.cli.shown import announce_commands, ends, print_facts
from flytekitplugins.authagent.cli.whoami import scopes, token_form
from flytekitplugins.authagent.context import from_environment
from flytekitplugins.authagent.errors import AuthAgentError, NoCredential
from flytekitplugins.authagent.providers import Wanted
from flytekitplugins.authagent.resolve import Resolution, resolve


def run(arguments: list[str]) -> int:
    """Print how things stand; the exit code is the one that `authagent token` would end with."""
    parser = argparse.ArgumentParser(
        prog="authagent status",
        description="Say which provider serves this place, from where, and until when; and how its agent is.",
    )
    option.add_endpoint(parser, "ask for this Flyte, where it is not the configured one")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args(arguments)
    announce_commands()
    facts, status = _facts(options.endpoint, as_json=options.json)
    settings = config.load(os.environ)
    agent = agent_facts.look(settings.socket, settings.pod_token)
    if options.json:
        facts["agent"] = agent
    elif agent:
        facts |= {f"agent_{name}" if name != "socket" else "agent": value for name, value in agent.items()}
    print_facts(facts, as_json=options.json)
    return status


def _facts(endpoint: str | None, *, as_json: bool) -> tuple[dict[str, Any], int]:
    settings = config.load(os.environ)
    flyte = flyte_config.load(os.environ)
    facts: dict[str, Any] = {
        "provider": None,
        "chosen_by": _chosen_by(settings),
        "flyte": endpoint or flyte.admin.endpoint,
        "flyte_from": "--endpoint" if endpoint else flyte.said.get("endpoint"),
        "token": None,
        "scopes": [],
        "expires_at": None,
        "header": None,
        "kept_in": None,
        "in_pod": settings.in_pod if as_json else ("yes" if settings.in_pod else "no"),
        "error": None,
        "hint": None,
    }
    asked = Asked(from_environment(os.environ), endpoint=endpoint, configured=flyte.admin.endpoint, interactive=False)
    try:
        resolution = resolve(asked, settings, os.environ, timeout=10.0)
        credential = resolution.check(resolution.source.get())
    except AuthAgentError as error:
        if isinstance(error, NoCredential):
            facts["provider"] = None if as_json else "none"
            facts |= {"attempts": [asdict(attempt) for attempt in error.attempts]} if as_json else {}
        return facts | {"error": str(error.args[0]), "hint": error.hint or None}, error.exit_code
    facts["provider"] = resolution.provider
    facts["flyte"] = resolution.endpoint.target if resolution.endpoint else facts["flyte"]
    if credential.is_anonymous:
        return facts | {"error": None, "expires_at": None if as_json else "this Flyte has no authentication"}, 0
    facts["token"] = token_form(credential)
    facts["scopes"] = scopes(credential)
    facts["expires_at"] = ends(credential, time.time(), as_json=as_json)
    facts["header"] = resolution.header or credential.header
    facts["kept_in"] = _kept_in(resolution, endpoint, as_json=as_json)
    return facts, 0


def _kept_in(resolution: Resolution, endpoint: str | None, *, as_json: bool) -> str | None:
    """Where the login is kept, where the credential is a login's."""
    if resolution.provider not in ("keyring", "pkce", "device"):
        return None
    provider = person.provider(endpoint, kind="pkce")
    key = provider.key(Wanted())
    place = provider.store.kept_in(key) or "keyring"
    return place if as_json else provider.store.described(place, key)


def _chosen_by(settings: config.Settings) -> str:
    if settings.pinned:
        return "AUTHAGENT_PROVIDER"
    return f"the bindings of {settings.source}" if settings.bindings is not None else "the default order"
