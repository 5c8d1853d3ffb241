"""`authagent login`: a person logs in once, and every program of theirs on this machine is served by it."""

from __future__ import annotations

import argparse
import os
import shlex
import time
from pathlib import Path

from flytekitplugins.authagent import endpoint as endpoints
from flytekitplugins.authagent import flyte_config, flytekit_mode, yaml_file
from flytekitplugins.authagent.cli import config_edit, option, person
from flytekitplugins.authagent.cli.config_edit import ConfigEdit
from flytekitplugins.authagent.cli.shown import ends, print_facts
from flytekitplugins.authagent.credential import claims
from flytekitplugins.authagent.errors import ConfigError
from flytekitplugins.authagent.oauth import userinfo
from flytekitplugins.authagent.providers import Wanted
from flytekitplugins.authagent.providers.person import PersonProvider
from flytekitplugins.authagent.session import Session, SessionKey
from flytekitplugins.authagent.session_store import Place
from flytekitplugins.authagent.terminal import Terminal


def run(arguments: list[str]) -> int:
    """Log in, keep it, and say who that is. Raises our errors."""
    options = _parser().parse_args(arguments)
    kind = "device" if options.device else "pkce" if options.browser else None
    provider = person.provider(options.endpoint, kind=kind, patience=options.timeout)
    if provider.in_pod:
        raise ConfigError("nobody can log in in a pod", hint="there, use a provider such as agent")
    if not provider.terminal.is_there:
        raise ConfigError(
            f"a login needs a terminal to show its address: {provider.terminal.missing}",
            hint="run this in a terminal, without `2>` or `|&`",
        )
    wanted = Wanted(scopes=tuple(options.scope))
    edit = _edit(options.endpoint) if options.write_config else None
    if not provider.client.is_needed:
        print_facts({"flyte": _flyte(provider), "login": None}, as_json=options.json)
        provider.terminal.say(f"Flyte at {_flyte(provider)} has no authentication: there is nothing to log in to.")
        return 0
    key = provider.key(wanted)
    place: Place = options.store or provider.store.kept_in(key) or "keyring"
    with provider.alone(wanted) as waited:
        session = _made_meanwhile(provider, key, place) if waited else None
        if session is None:
            target = provider.client.target(wanted)
            session = provider.log_in(target, wanted, browser=not options.no_browser, keep_in=place)
    kept_in = place if options.json else provider.store.described(place, key)
    print_facts(_facts(provider, session, options.json) | {"kept_in": kept_in}, as_json=options.json)
    if edit is not None:
        _write(edit, provider.terminal)
    elif not flytekit_mode.is_on(flyte_config.load(os.environ)):
        named = f" --endpoint {shlex.quote(options.endpoint)}" if options.endpoint else ""
        provider.terminal.say(
            "\npyflyte, and other programs that use flytekit, take this login once their shell has run\n\n"
            f'  eval "$(authagent env{named})"\n\n'
            f"`authagent login{named} --write-config` writes it into Flyte's configuration, for every shell."
        )
    return 0


def _made_meanwhile(provider: PersonProvider, key: SessionKey, place: Place) -> Session | None:
    """The login that another program has just made, where it is kept in `place`."""
    made = provider.store.load(key)
    is_there = made is not None and place == (provider.store.kept_in(key) or "keyring")
    return made if is_there and made and made.credential.remaining(time.time()) > 0 else None


def _edit(endpoint: str | None) -> ConfigEdit:
    """What makes flytekit's own clients use the login, in the file that they read. Raises `ConfigError`."""
    config = flyte_config.load(os.environ)
    path = Path(config.source) if config.source else Path.home() / ".flyte" / "config.yaml"
    if path.suffix not in (".yaml", ".yml"):
        raise ConfigError(f"{path} is what flytekit reads here, and it is not YAML", hint=config_edit.ELSE)
    if not config.is_for(endpoint):
        raise ConfigError(f"{path} is about {config.admin.endpoint}, not about {endpoint}", hint=config_edit.ELSE)
    values: dict[str, str | bool] = {"authType": flytekit_mode.MODE}
    written = yaml_file.load(path, flyte_config.File).admin if config.source else flyte_config.Admin()
    if (written.authType or "pkce").lower() not in ("pkce", "standard", flytekit_mode.MODE):
        raise ConfigError(f"{path} has authType {written.authType}, which would be lost", hint=config_edit.ELSE)
    if written.endpoint is None and (named := endpoint or config.admin.endpoint):
        parsed = endpoints.parse(named)
        values["endpoint"] = parsed.target
        values["insecure"] = config.admin.insecure or False if parsed.insecure is None else parsed.insecure
    return config_edit.edit(path, values)


def _write(edit: ConfigEdit, terminal: Terminal) -> None:
    """Show what changes, then write it."""
    if not edit.diff:
        terminal.say(f"{edit.path} says already what pyflyte needs.")
        return
    terminal.say(f"\n{edit.diff}")
    backup = edit.write()
    terminal.say(f"{edit.path} is written" + (f"; {backup} is what it was." if backup else "."))


def _facts(provider: PersonProvider, session: Session, as_json: bool) -> dict[str, object]:
    who = userinfo.person(claims(session.credential.id_token or session.credential.token))
    return {
        "flyte": _flyte(provider),
        "subject": who.subject,
        "name": who.name,
        "email": who.email,
        "scopes": list(session.credential.scopes),
        "expires_at": ends(session.credential, time.time(), as_json=as_json),
        "renewable": session.refresh_token is not None if as_json else _renewable(session),
    }


def _renewable(session: Session) -> str:
    if session.refresh_token is not None:
        return "yes, without you"
    return "no: ask for the scope offline_access (or offline) to be given a refresh token"


def _flyte(provider: PersonProvider) -> str | None:
    return provider.client.server.endpoint.target if provider.client.server else None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="authagent login",
        description="Log in once, with a browser; the login is kept and renewed for all your programs.",
    )
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--browser", action="store_true", help="with a browser on this machine (code and PKCE)")
    how.add_argument("--device", action="store_true", help="with a browser on any machine, by a code")
    parser.add_argument("--no-browser", action="store_true", help="only show the address, and take a pasted answer")
    option.add_endpoint(parser, "the Flyte to log in to, where it is not the configured one")
    option.add_scopes(parser, "a scope to ask for; may be repeated")
    parser.add_argument(
        "--store",
        choices=("keyring", "file"),
        help="keep the login in the keyring, or in a file that only you can read and that is not encrypted"
        " (where your last login is, else the keyring)",
    )
    parser.add_argument(
        "--write-config",
        action="store_true",
        help="let pyflyte use the login: show the lines of Flyte's configuration that change, and write them",
    )
    parser.add_argument("--timeout", type=option.seconds, metavar="SECONDS", help="how long to wait for you (300)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    return parser
