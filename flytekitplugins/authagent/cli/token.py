"""
`authagent token`: one access token on stdout, for every client that can run a command to get one.

Where an agent's socket is there, and nothing asks for anything special, `quickly` answers from it with what a bare
interpreter has loaded anyway (docs/decisions/0006-start-up.md). Everything else goes the long way.
"""

import _socket
import sys
from os import environ, geteuid, path, write
from time import monotonic

from flytekitplugins.authagent import wire

PATIENCE = 10.0
"""Seconds for all of it: whoever runs this has no deadline of its own."""

_FILES = ("~/.flyte/authagent.yaml", "/etc/flyte/authagent.yaml")
_NAMING = ("AUTHAGENT_", "FLYTECTL_CONFIG", "_FLYTECTL_CONFIG", "FLYTE_PLATFORM_", "FLYTE_CREDENTIALS_")
_HARMLESS = (
    "AUTHAGENT_AUTO",
    "AUTHAGENT_EXECUTION",
    "AUTHAGENT_EXECUTION_DOMAIN",
    "AUTHAGENT_EXECUTION_PROJECT",
    "AUTHAGENT_POD_TOKEN",
    "AUTHAGENT_SOCKET",
    "FLYTE_CREDENTIALS_AUTH_MODE",
)
_BOOLEANS = ("FLYTE_PLATFORM_INSECURE",)
_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._"
_SO_PEERCRED = 17  # <asm-generic/socket.h>; the module `socket` would cost more than the answer


def quickly(arguments: "list[str]") -> "int | None":
    """Print the token of the agent and give the exit code, or `None` where this is a case for `run`."""
    fields = _fields(arguments)
    socket_path = _agent()
    if fields is None or socket_path is None:
        return None
    try:
        reply = _ask(socket_path, wire.post("/token", wire.form(fields)), monotonic() + PATIENCE)
    except TimeoutError:
        write(2, f"authagent: the agent at {socket_path} did not answer in {PATIENCE:g} s\n".encode())
        return 5
    if reply is None or reply.status != 200:
        return None  # the long way asks again, and explains
    token = _token_of(reply.body)
    if token is None:
        return None
    write(1, token.encode() + b"\n")
    return 0


def _fields(arguments: "list[str]") -> "list[tuple[str, str]] | None":
    """The form for these arguments; `None` where they are not simple pairs of an option and a value."""
    names = {"--audience": "audience", "--scope": "scope", "--min-lifetime": "min_lifetime"}
    assertion = _assertion()
    if assertion is None:
        return None
    fields, scopes = [("grant_type", wire.CLIENT_CREDENTIALS), *_hints(), *assertion], []
    for option, value in zip(arguments[::2], [*arguments[1::2], ""], strict=False):
        if option not in names or not value or value.startswith("-"):
            return None
        if option == "--scope" and " " in value:
            return None
        if option == "--scope":
            scopes.append(value)
        else:
            fields.append((names[option], value))
    return fields + ([("scope", " ".join(scopes))] if scopes else [])


def _hints() -> "list[tuple[str, str]]":
    """What propeller says of a task's pod, for the agent's audit file and for rules that it narrows."""
    execution = [environ.get("FLYTE_INTERNAL_EXECUTION_" + part, "") for part in ("PROJECT", "DOMAIN", "ID")]
    task = environ.get("FLYTE_INTERNAL_TASK_NAME")
    return [("execution", ":".join(execution))] * all(execution) + ([("task", task)] if task else [])


def _assertion() -> "list[tuple[str, str]] | None":
    """The pod's token, for an agent that attests pods. `None` where it is for the long way to say what is wrong."""
    place = environ.get("AUTHAGENT_POD_TOKEN") or wire.POD_TOKEN
    if not path.isabs(place):
        return None
    if not path.exists(place):
        return None if environ.get("AUTHAGENT_POD_TOKEN") else []
    try:
        with open(place, "rb") as file:
            shown = file.read(32768).decode("latin-1").strip()
    except OSError:
        return None
    if not shown:
        return None
    return [("client_assertion_type", wire.ASSERTION_TYPE), ("client_assertion", shown)]


def _agent() -> "str | None":
    """The agent's socket, where nothing else is named: another source, or what the long way would refuse."""
    for name in environ:
        if name.startswith(_NAMING) and environ[name] and not _is_harmless(name, environ[name]):
            return None
    if path.exists("flytekit.config"):
        return None
    for file in _FILES:
        if path.exists(path.expanduser(file)):
            return None
    runtime = environ.get("XDG_RUNTIME_DIR")
    found = environ.get("AUTHAGENT_SOCKET") or (
        "/var/run/authagent/agent.sock"
        if environ.get("FLYTE_INTERNAL_EXECUTION_ID") or not runtime
        else runtime + "/authagent/agent.sock"
    )
    return found if path.isabs(found) and path.exists(found) else None


def _is_harmless(name: str, value: str) -> bool:
    """Whether a variable changes nothing here: known to be, or with a value that is plainly a good one."""
    if name == "AUTHAGENT_PROVIDER":
        return value == "agent"
    if name == "FLYTE_PLATFORM_URL":
        return not value.strip(_LETTERS + ":/[]")
    return name in _HARMLESS or (name in _BOOLEANS and value.lower() in ("0", "1", "true", "false"))


def _ask(socket_path: str, request: bytes, deadline: float) -> "wire.Reply | None":
    """
    The answer of a server that we have reason to trust; `None` for everything else.

    Raises `TimeoutError` where it is not there before `deadline`, of the steady clock.
    """
    connection = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    try:
        connection.settimeout(_left(deadline))
        connection.connect(socket_path)
        credentials = connection.getsockopt(_socket.SOL_SOCKET, _SO_PEERCRED, 12)
        uid = int.from_bytes(credentials[4:8], sys.byteorder)
        if not wire.trusted_server(uid, geteuid(), None):
            return None
        connection.sendall(request)
        reader = wire.Reader()
        while reader.reply is None:
            connection.settimeout(_left(deadline))
            piece = connection.recv(65536)
            if not piece:
                return None
            reader.feed(piece)
    except TimeoutError:
        raise
    except (OSError, wire.Broken):
        return None
    finally:
        connection.close()
    return reader.reply


def _left(deadline: float) -> float:
    """Seconds, more than none: a socket takes zero for "do not wait". Raises `TimeoutError`."""
    left = deadline - monotonic()
    if left <= 0:
        raise TimeoutError
    return left


def _token_of(body: bytes) -> "str | None":
    """
    The `access_token` of a JSON object, read strictly enough to be sure: `json` would cost more than all the rest.

    A token has no character that JSON escapes (RFC 6750 section 2.1), and its name cannot stand inside one.
    """
    before, found, after = body.partition(b'"access_token":')
    if not found or before.strip() != b"{" or not after.lstrip().startswith(b'"'):
        return None
    token = after.lstrip()[1:].partition(b'"')[0].decode("latin-1")
    allowed = _LETTERS + "~+/="
    return token if token and not token.strip(allowed) and all(c in allowed for c in token) else None


def run(arguments: "list[str]") -> int:
    """The same from whatever provider is configured, with errors that say what to do. Raises our errors."""
    import argparse
    import os

    from flytekitplugins.authagent import config, discovery, flyte_config
    from flytekitplugins.authagent.asked import Asked
    from flytekitplugins.authagent.cli import option
    from flytekitplugins.authagent.context import from_environment
    from flytekitplugins.authagent.errors import NoCredential
    from flytekitplugins.authagent.reach import flyte_server
    from flytekitplugins.authagent.resolve import resolve

    parser = argparse.ArgumentParser(
        prog="authagent token",
        description="Print exactly one access token and a newline, or nothing and an exit code.",
    )
    option.add_endpoint(parser, "the Flyte that the token is for; another's is refused")
    parser.add_argument("--audience", type=option.name, metavar="A", help="the audience that the token must be for")
    option.add_scopes(parser, "a scope to ask for; may be repeated")
    parser.add_argument("--min-lifetime", type=int, default=0, metavar="SECONDS", help="how long it must still be good")
    options = parser.parse_args(arguments)
    asked = Asked(
        context=from_environment(os.environ),
        endpoint=options.endpoint,
        audience=options.audience,
        scopes=tuple(options.scope),
    )
    deadline = monotonic() + PATIENCE
    settings, least = config.load(os.environ), options.min_lifetime
    resolution = resolve(asked, settings, os.environ, min_lifetime=least, timeout=PATIENCE)
    credential = resolution.source.get(timeout=max(deadline - monotonic(), 0.1))
    if credential.is_anonymous:
        server = flyte_server(asked, None, settings, os.environ)
        if server and flyte_config.load(os.environ).authentication:
            discovery.check_flyte(server)
        raise NoCredential("this Flyte has no authentication, so there is no token", hint="call it without one")
    sys.stdout.write(resolution.check(credential).token.reveal() + "\n")
    return 0
