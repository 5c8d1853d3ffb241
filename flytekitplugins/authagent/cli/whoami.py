"""`authagent whoami`: for whom the credential of this place speaks, as Flyte or the identity provider sees it."""

from __future__ import annotations

import argparse
import os
import time
from dataclasses import dataclass

from flytekitplugins.authagent import acceptance, config, discovery, flyte_config
from flytekitplugins.authagent import credential as credentials
from flytekitplugins.authagent.asked import Asked
from flytekitplugins.authagent.cli import option, person
from flytekitplugins.authagent.cli.shown import announce_commands, ends, print_facts
from flytekitplugins.authagent.context import from_environment
from flytekitplugins.authagent.credential import Credential, claims
from flytekitplugins.authagent.discovery import FlyteServer
from flytekitplugins.authagent.errors import AuthAgentError, ConfigError, ProviderUnavailable, Rejected
from flytekitplugins.authagent.oauth import userinfo
from flytekitplugins.authagent.oauth.userinfo import Person
from flytekitplugins.authagent.providers import Wanted
from flytekitplugins.authagent.reach import flyte_server
from flytekitplugins.authagent.resolve import Resolution, resolve

NOBODY = "flyte: it takes the caller for nobody"
"""The source where the token changes nothing."""


@dataclass(frozen=True)
class Known:
    """A person, and who says so: `flyte`, or `claims`, which nobody has checked."""

    person: Person
    source: str


def run(arguments: list[str]) -> int:
    """Print who that is. Raises our errors."""
    parser = argparse.ArgumentParser(
        prog="authagent whoami", description="Say for whom the credential that is used here speaks; never the token."
    )
    option.add_endpoint(parser, "the Flyte to ask, where it is not the configured one")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args(arguments)
    announce_commands()
    configured = flyte_config.load(os.environ).admin.endpoint
    asked = Asked(from_environment(os.environ), endpoint=options.endpoint, configured=configured, interactive=False)
    resolution = resolve(asked, config.load(os.environ), os.environ)
    credential = resolution.check(resolution.source.get())
    server = server_of(resolution, asked)
    known = known_person(resolution, credential, server)
    if known.person.name is None and known.source != NOBODY:
        known = _with_userinfo(known, resolution, credential, options.endpoint)
    print_facts(
        {
            "name": known.person.name,
            "subject": known.person.subject,
            "email": known.person.email,
            "token": token_form(credential),
            "scopes": scopes(credential),
            "expires_at": ends(credential, time.time(), as_json=options.json),
            "flyte": server.endpoint.target if server else None,
            "provider": resolution.provider,
            "source": known.source,
        },
        as_json=options.json,
    )
    if known.source == NOBODY and server:
        raise Rejected(f"Flyte at {server.endpoint.target} {acceptance.NOBODY}", hint=acceptance.NOBODY_HINT)
    return 0


def _with_userinfo(known: Known, resolution: Resolution, credential: Credential, endpoint: str | None) -> Known:
    """A name, where the login has an issuer that can be asked for it (OpenID Connect Core section 5.3)."""
    if resolution.provider not in ("keyring", "pkce", "device"):
        return known
    provider = person.provider(endpoint, kind="pkce")
    session = provider.store.load(provider.key(Wanted()))
    if session is None or session.userinfo_endpoint is None or session.credential.token != credential.token:
        return known
    try:
        sent = userinfo.request(session.userinfo_endpoint, credential.token)
        said = userinfo.read(provider.client.send(sent), sent)
    except AuthAgentError:
        return known
    if known.person.subject is None:
        return Known(said, "userinfo")
    return Known(_completed(known.person, said), known.source)


def server_of(resolution: Resolution, asked: Asked) -> FlyteServer | None:
    """The Flyte that `resolution` sends its credential to, and how it is reached."""
    if resolution.endpoint is None:
        return None
    settings, named = config.load(os.environ), resolution.endpoint.target
    found = flyte_server(Asked(endpoint=named, insecure=resolution.insecure), None, settings, os.environ)
    if found and found.insecure and not settings.may_send_plaintext(found.endpoint):
        raise ConfigError(
            f"a token would be sent to {found.endpoint.target} in plaintext",
            hint=f"use TLS, or set AUTHAGENT_ALLOW_PLAINTEXT={found.endpoint.host}",
        )
    return found


def known_person(resolution: Resolution, credential: Credential, server: FlyteServer | None) -> Known:
    """
    Whom Flyte takes the credential for; where it does not say, whom the credential says that it speaks for.

    Raises `Rejected` where Flyte does not take it.
    """
    if credential.is_anonymous:
        if server:
            discovery.check_flyte(server)
        return Known(Person(), "flyte has no authentication")
    if server is None:
        return _claimed(credential, "no Flyte is known")
    try:
        found = acceptance.ask(server, header(resolution, credential, server), credential.token)
    except ProviderUnavailable:
        return _claimed(credential, "Flyte does not answer")
    said = found.person
    if found.token_changes_nothing and said is not None and said.subject is None:
        return Known(Person(), NOBODY)
    if said is None or said.subject is None:
        return _claimed(credential, "Flyte does not say")
    return Known(_completed(said, _claimed(credential, "").person), "flyte")


def _claimed(credential: Credential, why: str) -> Known:
    """Whom the credential says that it speaks for; nobody where it says nothing that can be read."""
    found = claims(credential.id_token or credential.token)
    if not found:
        return Known(Person(), f"nobody: {why}, and the token is {token_form(credential)}")
    return Known(userinfo.person(found), f"claims, not checked: {why}")


def _completed(said: Person, claimed: Person) -> Person:
    """Flyte knows a subject, and seldom a name: that is the credential's to say, where it is of the same person."""
    if said.subject != claimed.subject:
        return said
    return Person(said.subject, said.name or claimed.name, said.email or claimed.email)


def header(resolution: Resolution, credential: Credential, server: FlyteServer) -> str:
    """The header that Flyte wants. Raises as `discovery.public_client`."""
    found = resolution.header or credential.header
    if found:
        return found
    try:
        client = discovery.public_client(server)
    except AuthAgentError:
        return "authorization"
    return (client.header if client else "") or "authorization"


def scopes(credential: Credential) -> list[str]:
    """Those granted, else those that the token itself names."""
    return list(credential.scopes or credentials.scopes(claims(credential.token)))


def token_form(credential: Credential) -> str | None:
    """Whether its token is a JWT, encrypted or opaque; `None` where there is none."""
    return None if credential.is_anonymous else credentials.form(credential.token)
