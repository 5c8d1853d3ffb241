"""Finding out what is wrong: one check after the other, each with what it found and what to do."""

from __future__ import annotations

import email.utils
import os
import socket
import stat
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from flytekitplugins.authagent import (
    acceptance,
    config,
    default_order,
    discovery,
    flyte_config,
    flytekit_mode,
    hub_client,
    session_store,
    wire,
)
from flytekitplugins.authagent import credential as credentials
from flytekitplugins.authagent.acceptance import Acceptance
from flytekitplugins.authagent.asked import Asked
from flytekitplugins.authagent.config import Settings
from flytekitplugins.authagent.context import from_environment
from flytekitplugins.authagent.credential import Credential, claims, moment
from flytekitplugins.authagent.discovery import FlyteServer
from flytekitplugins.authagent.errors import AuthAgentError, ConfigError, Denied, NoCredential, ProviderError
from flytekitplugins.authagent.flyte_config import FlyteConfig
from flytekitplugins.authagent.http import Door
from flytekitplugins.authagent.login_files import LoginFiles
from flytekitplugins.authagent.oauth.message import Request
from flytekitplugins.authagent.reach import flyte_server
from flytekitplugins.authagent.resolve import SEE_DOCTOR, Resolution, resolve
from flytekitplugins.authagent.suggestion import did_you_mean

SKEW = 5.0
"""Seconds that clocks may differ: flyteadmin allows for none at all, and networks take a part of a second."""

_OF_FLYTEKIT = {"FLYTE_PLATFORM_AUTH", "FLYTE_CREDENTIALS_API_KEY"}

Level = Literal["good", "note", "bad"]


@dataclass(frozen=True)
class Finding:
    """
    What a check found. `check` is a word for programs, `remedy` what to do where `level` is not good.

    `exit_code` is what a command that meets this ends with.
    """

    check: str
    level: Level
    what: str
    remedy: str = ""
    exit_code: int = ConfigError.exit_code


def diagnose(environ: Mapping[str, str], endpoint: str | None = None) -> Iterator[Finding]:
    """Check everything, in the order in which one thing needs another; a thing that cannot be known is left out."""
    try:
        settings, flyte = config.load(environ), flyte_config.load(environ)
    except AuthAgentError as error:
        yield _bad("config", error)
        return
    yield from _configuration(settings, flyte, environ)
    of_agent = list(_agent(settings))
    yield from of_agent
    yield from _hub(settings)
    if not settings.in_pod:
        yield from _keyring(environ)
    asked = Asked(from_environment(environ), endpoint=endpoint, configured=flyte.admin.endpoint, interactive=False)
    server = flyte_server(asked, None, settings, environ)
    of_flyte = list(_flyte(server))
    yield from of_flyte
    try:
        resolution = resolve(asked, settings, environ, timeout=15.0)
        credential = resolution.check(resolution.source.get(timeout=15.0))
    except NoCredential as error:
        yield from _tried(error)
        return
    except AuthAgentError as error:
        if error.args[0] not in (finding.what for finding in (*of_agent, *of_flyte)):  # what is in the way is said once
            yield _bad("provider", error)
        return
    yield Finding("provider", "good", f"the credential comes from {resolution.provider}")
    server = _server(resolution, settings, environ) or server
    yield from _pyflyte(resolution, flyte, environ)
    if not credential.is_anonymous:
        yield from _credential(credential)
        yield from _clock(credential, flyte)
        if server:
            yield from _accepted(resolution, credential, server, settings)


def _configuration(settings: Settings, flyte: FlyteConfig, environ: Mapping[str, str]) -> Iterator[Finding]:
    sources = ", ".join(filter(None, (settings.source, flyte.source)))
    if sources:
        yield Finding("config", "good", f"read {sources}")
    elif not flyte.admin.endpoint and not settings.pinned:
        yield Finding(
            "config", "note", "there is no configuration file", "write ~/.flyte/config.yaml (docs/configuration.md)"
        )
    order = " then ".join(default_order.TITLES.get(name, name) for name in default_order.names(settings))
    if settings.pinned:
        order = f"{settings.pinned} alone (AUTHAGENT_PROVIDER)"
    elif settings.bindings is not None:
        order = f"the first of {len(settings.bindings)} bindings that matches"
    yield Finding("order", "good", f"providers are tried in this order: {order}")
    if flyte.by_authagent and flyte.has_secret:
        secret = flyte.said.get("clientSecretLocation") or flyte.said.get("clientSecretEnvVar")
        yield Finding(
            "mode",
            "bad",
            f"a client secret is configured ({secret}), so flytekit's own clients use it, and not authType authagent",
            "take the secret out of what pods and this user see; the agent keeps it",
        )
    yield from _variables(environ)
    if not flyte.authentication:
        yield Finding("mode", "note", "FLYTE_PLATFORM_AUTH switches authentication off", "unset it to authenticate")


def _variables(environ: Mapping[str, str]) -> Iterator[Finding]:
    """Variables that nothing reads: all of ours, and those of Flyte that are spelled like one that we know."""
    flytes = {name for names in flyte_config.VARIABLES.values() for name in names} | {flyte_config.SECRET}
    for name in sorted(environ):
        ours = name.startswith("AUTHAGENT_") and name not in config.VARIABLES
        theirs = name.startswith(("FLYTE_CREDENTIALS_", "FLYTE_PLATFORM_")) and name not in flytes | _OF_FLYTEKIT
        if not (ours or theirs) or name.endswith(("_FROM_ENV_VAR", "_FROM_FILE")):
            continue
        prefix = "AUTHAGENT_" if ours else "_".join(name.split("_")[:2]) + "_"
        meant = did_you_mean(name, config.VARIABLES if ours else flytes, prefix=prefix)
        if ours or meant:
            yield Finding("variable", "note", f"{name} is set, and nothing reads it{meant}", "correct or unset it")


def _agent(settings: Settings) -> Iterator[Finding]:
    path = settings.socket
    named = "AUTHAGENT_SOCKET: " if settings.socket_is_set else ""
    try:
        facts = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        if settings.socket_is_set or (settings.in_pod and path.parent.exists()):
            what = (
                f"AUTHAGENT_SOCKET names {path}, where there is no socket" if named else f"there is no socket at {path}"
            )
            yield Finding("agent", "bad", what, "start the agent: authagent serve")
        return
    except OSError as failed:
        yield Finding("agent", "bad", f"{named}{path} cannot be used: {failed.strerror}", "check its owner and mode")
        return
    if not stat.S_ISSOCK(facts.st_mode):
        yield Finding("agent", "bad", f"{named}{path} is not a socket", "let AUTHAGENT_SOCKET name the agent's")
        return
    if facts.st_mode & 0o002:
        yield Finding(
            "agent", "note", f"every user may connect to {path}: the agent's rules decide alone", "mode: 0600 or 0660"
        )
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(5.0)
        try:
            connection.connect(str(path))
        except PermissionError:
            yield Finding(
                "agent",
                "bad",
                f"we (uid {os.geteuid()}) may not connect to {path}",
                "let the agent's `mode:` and `group:` include us",
            )
            return
        except OSError as failed:
            yield Finding(
                "agent", "bad", f"nobody answers at {path}: {failed.strerror}", "start the agent: authagent serve"
            )
            return
        uid = int.from_bytes(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)[4:8], "little")
    if not wire.trusted_server(uid, os.geteuid(), None):
        yield Finding(
            "agent", "bad", f"{path} is served by uid {uid}, whom we do not know", "set server_uid in the binding"
        )
        return
    yield Finding("agent", "good", f"the agent at {path} answers")


def _hub(settings: Settings) -> Iterator[Finding]:
    """Whether it answers, with a certificate that is trusted; a person's token is not asked for."""
    hub = settings.hub
    if hub is None:
        return
    try:
        said = hub_client.describe(hub.url, Door(timeout=5.0, ca_file=hub.ca_file))
    except AuthAgentError as error:
        yield _bad("hub", error)
        return
    if hub.audience and hub.audience != said.resource:
        yield Finding(
            "hub",
            "bad",
            f"the hub at {hub.url} takes tokens for the audience {said.resource!r}, and not for {hub.audience!r}",
            "correct audience: under hub:, and check its url",
        )
        return
    if hub.provider is None and hub.client_id is None:
        yield Finding(
            "hub",
            "bad",
            f"nothing says how to log in to the hub at {hub.url}",
            "write client_id: or provider: under hub: in authagent.yaml, or set AUTHAGENT_HUB_TOKEN_FILE",
        )
        return
    yield Finding(
        "hub", "good", f"the hub at {hub.url} answers, and takes tokens of {said.issuer} for {said.resource!r}"
    )


def _keyring(environ: Mapping[str, str]) -> Iterator[Finding]:
    store, files = session_store.of_user(), LoginFiles(environ)
    for path in files.all():
        yield Finding(
            "login",
            "note",
            f"a login is kept in {path}, which only we can read and which is not encrypted",
            "where a keyring works, `authagent login --store keyring` keeps the next one there",
        )
    trouble = store.keyring_trouble()
    if trouble:
        yield Finding(
            "keyring",
            "note",
            f"the keyring cannot be used: {trouble}",
            "unlock it, install one (gnome-keyring, KWallet), or keep logins in a file: `authagent login --store file`",
        )
    else:
        yield Finding("keyring", "good", "the keyring can be used")


def _flyte(server: FlyteServer | None) -> Iterator[Finding]:
    if server is None:
        yield Finding(
            "endpoint", "bad", "no Flyte is configured", "set FLYTE_PLATFORM_URL to the address of your Flyte"
        )
        return
    try:
        client = discovery.public_client(server)
        if client is None:
            discovery.check_flyte(server)
    except AuthAgentError as error:
        yield _bad("endpoint", error)
        return
    if client is None:
        yield Finding("endpoint", "good", f"Flyte at {server.endpoint.target} answers, and has no authentication")
        return
    header = client.header or "authorization"
    yield Finding("endpoint", "good", f"Flyte at {server.endpoint.target} answers, and wants tokens under {header}")


def _credential(credential: Credential) -> Iterator[Finding]:
    remaining = credential.remaining(time.time())
    if remaining < 60:
        yield Finding(
            "lifetime", "note", f"the credential ends in {remaining:.0f} s", "it is renewed; a file must be replaced"
        )
    form, found = credentials.form(credential.token), claims(credential.token)
    if form != "JWT":
        yield Finding(
            "token",
            "note",
            f"the token is {form}: its scopes, its audience and its end cannot be read here",
            "flyteadmin takes signed JWTs only; ask the identity provider for one, often by naming an audience",
        )
        return
    scp = found.get("scp")
    if scp == "all" or (isinstance(scp, list) and "all" in scp) or not (scp or found.get("client_id")):
        yield Finding("scope", "good", "the token has the scope `all` where flyteadmin looks for it")
        return
    where = "nowhere"
    if "all" in credentials.scopes({"scp": scp}):
        where = "in the claim `scp`, in one text with others, which flyteadmin takes for one scope"
    elif "all" in credentials.scopes({"scope": found.get("scope")}):
        where = "in the claim `scope`, which flyteadmin does not read"
    yield Finding(
        "scope",
        "bad",
        f"the token has the scope `all` {where}",
        "ask for the scope `all`, and let the identity provider put it into the claim `scp`, as a list"
        " (docs/identity-providers.md)",
    )


def _clock(credential: Credential, flyte: FlyteConfig) -> Iterator[Finding]:
    """By a token from the future, or by what the issuer's server calls now."""
    found = claims(credential.token)
    issued, issuer = moment(found.get("iat")), found.get("iss")
    ahead = (issued or 0.0) - time.time()
    if ahead > SKEW:
        yield Finding(
            "clock", "bad", f"the token was issued {ahead:.0f} s in the future by our clock", "set the clock (NTP)"
        )
        return
    if not isinstance(issuer, str) or not issuer.startswith(("https://", "http://")):
        return
    admin = flyte.admin
    ca_file = Path(admin.caCertFilePath) if admin.caCertFilePath else None
    door = Door(timeout=5.0, ca_file=ca_file, verify=not admin.insecureSkipVerify, proxy=admin.httpProxyURL)
    try:
        before = time.time()
        answer = door.send(Request(issuer.rstrip("/") + "/.well-known/openid-configuration"))
        date = email.utils.parsedate_to_datetime(answer.headers["date"]).timestamp()
    except (AuthAgentError, KeyError, ValueError):
        return
    off = date + 0.5 - (before + time.time()) / 2
    if abs(off) > SKEW:
        yield Finding(
            "clock",
            "bad",
            f"our clock is {abs(off):.0f} s {'behind' if off > 0 else 'ahead of'} that of the identity provider",
            "set the clock (NTP); flyteadmin allows no difference",
        )
    else:
        yield Finding("clock", "good", "our clock agrees with that of the identity provider")


def _accepted(
    resolution: Resolution, credential: Credential, server: FlyteServer, settings: Settings
) -> Iterator[Finding]:
    if server.insecure and not settings.may_send_plaintext(server.endpoint):
        yield Finding(
            "plaintext",
            "bad",
            f"a token would go to {server.endpoint.target} in plaintext",
            f"use TLS, or set AUTHAGENT_ALLOW_PLAINTEXT={server.endpoint.host}",
        )
        return
    own = resolution.header or credential.header
    try:
        client = discovery.public_client(server)
        if client is None:
            return
        wanted = client.header or "authorization"
        if own and own != wanted:
            yield Finding(
                "header",
                "note",
                f"tokens are sent under {own}, and Flyte says that it wants {wanted}",
                "leave authorization_header out, unless a proxy before Flyte wants it so",
            )
        found = acceptance.ask(server, own or wanted, credential.token)
    except ProviderError as error:
        yield _bad("accepted", error)
        return
    except AuthAgentError as error:
        yield _bad("audience" if "audience" in str(error) else "accepted", error)
        return
    if found.token_changes_nothing:
        yield Finding("accepted", "bad", f"Flyte {_nobody(found)}", acceptance.NOBODY_HINT, Denied.exit_code)
        return
    whom = found.person.subject if found.person else None
    yield Finding(
        "accepted", "good", f"Flyte takes the token{f' of {whom}' if whom else ', and does not say for whom'}"
    )
    if found.anonymous is not None:
        yield Finding(
            "anonymous",
            "note",
            "Flyte lets callers in without a token, too",
            "let what stands before Flyte refuse them, or set auth.disableForGrpc of flyteadmin to false",
        )


def _nobody(found: Acceptance) -> str:
    whom = found.person.subject if found.person else None
    return f"takes the caller for {whom}, with the token and without it" if whom else acceptance.NOBODY


def _pyflyte(resolution: Resolution, flyte: FlyteConfig, environ: Mapping[str, str]) -> Iterator[Finding]:
    """Whether `pyflyte` takes the login that is there, or opens one of its own."""
    if resolution.provider in ("keyring", "pkce", "device") and not flytekit_mode.is_on(flyte):
        yield Finding(
            "pyflyte",
            "note",
            "there is a login, and pyflyte does not use it: FLYTE_CREDENTIALS_AUTH_MODE is not authagent",
            f"`{flytekit_mode.EVAL}` in this shell, or `{flytekit_mode.FOR_GOOD}` for every shell",
        )


def _tried(error: NoCredential) -> Iterator[Finding]:
    """What to do here; then every provider that was asked, where there are several."""
    remedy = error.hint.removesuffix(SEE_DOCTOR)
    yield Finding("credential", "bad", str(error.args[0]), remedy or "configure a provider", error.exit_code)
    if len(error.attempts) > 1:
        for attempt in error.attempts:
            yield Finding("tried", "note", f"{attempt.provider}: {attempt.reason}", attempt.remedy)


def _server(resolution: Resolution, settings: Settings, environ: Mapping[str, str]) -> FlyteServer | None:
    if resolution.endpoint is None:
        return None
    asked = Asked(endpoint=resolution.endpoint.target, insecure=resolution.insecure)
    return flyte_server(asked, None, settings, environ)


def _bad(check: str, error: AuthAgentError) -> Finding:
    return Finding(check, "bad", str(error.args[0]), error.hint or "correct that", error.exit_code)
