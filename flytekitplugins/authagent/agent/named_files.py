"""What `agent.yaml` names on this machine: whether each file, variable and program can be used."""

from __future__ import annotations

import os
import shutil
import ssl
import stat
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from pydantic import BaseModel

from flytekitplugins.authagent import trust
from flytekitplugins.authagent.agent.audit import STDOUT
from flytekitplugins.authagent.agent.file import AgentFile
from flytekitplugins.authagent.agent.people_settings import PeopleSettings
from flytekitplugins.authagent.agent.upstream import HubSpec
from flytekitplugins.authagent.errors import ConfigError
from flytekitplugins.authagent.http import Door
from flytekitplugins.authagent.providers.oauth_client import OAuthClient, read_secret
from flytekitplugins.authagent.specs import AgentSpec, ClientSpec, CommandSpec

MAX_FILE = 1 << 20
"""Bytes of a file with certificates."""

PUBLIC = frozenset({"ca_file", "certificate_file"})
"""Keys of files that anybody may read. All others hold a secret or a token."""


def problems(file: AgentFile) -> list[ConfigError]:
    """What is wrong, each with its key and file, in the order of the file. Nothing is made, and nobody is asked."""
    found = []
    for key, check in _checks(file):
        try:
            check()
        except ConfigError as wrong:
            found.append(ConfigError(f"{key}: {wrong.args[0]}", hint=wrong.hint))
    return found


def check(section: BaseModel) -> None:
    """Check what one section names, an upstream for example. Raises `ConfigError` with the key and the file."""
    for key in sorted(section.model_fields_set):
        value = getattr(section, key)
        if key == "socket" and isinstance(section, AgentSpec):
            _check_socket(section.socket)
        elif isinstance(value, Path) and key in PUBLIC:
            _check_certificates(key, value)
        elif isinstance(value, Path):
            read_secret(value, key, in_pod=False)
    if isinstance(section, ClientSpec):
        client = OAuthClient(section, "client")
        client.check()
        if server := section.issuer or section.token_endpoint:
            client.door.check(server)
    if isinstance(section, HubSpec):
        Door(ca_file=section.ca_file, proxy=section.proxy).check(section.url)
    if isinstance(section, PeopleSettings):
        Door(ca_file=section.ca_file, proxy=section.proxy).check(section.issuer)
    if isinstance(section, CommandSpec) and shutil.which(section.command[0]) is None:
        raise ConfigError(f"command: there is no program {section.command[0]}", hint="check the command, and PATH")


def _checks(file: AgentFile) -> Iterator[tuple[str, Callable[[], object]]]:
    """A check for each key."""
    if file.socket:
        yield "socket", partial(_check_place, file.socket)
    if file.audit and file.audit.path != STDOUT:
        yield "audit", partial(_check_writable, file.audit.path)
    for name, upstream in file.upstreams.items():
        yield f"upstreams.{name}", partial(check, upstream)
    if file.tls:
        yield "tls", partial(check, file.tls)
    if file.kubernetes:
        yield "kubernetes", partial(check, file.kubernetes)
        yield "kubernetes.node_name_env", partial(file.kubernetes.node, os.environ)
    if file.hub:
        yield "hub", partial(check, file.hub)
        yield "hub.people", partial(check, file.hub.people)
        if file.hub.people.introspection:
            yield "hub.people.introspection", partial(check, file.hub.people.introspection)


def _check_certificates(key: str, path: Path) -> None:
    trust.read_named(path, key, secret=False, limit=MAX_FILE)
    if key != "ca_file":
        return
    try:
        ssl.create_default_context(cafile=str(path))
    except OSError:  # as an SSLError is
        raise ConfigError(f"{key} {path} holds no certificate", hint="certificates in PEM") from None


def _check_socket(path: Path) -> None:
    """The socket of another agent."""
    try:
        is_socket = stat.S_ISSOCK(path.stat().st_mode)
    except OSError as failed:
        raise ConfigError(f"socket {path}: {failed.strerror}", hint="is that agent running?") from None
    if not is_socket:
        raise ConfigError(f"socket {path} is not a socket")


def _check_place(path: Path) -> None:
    """Where our own socket is to be: its directory is there, or can be made."""
    directory = path.parent
    if not directory.exists():
        path, directory = directory, directory.parent
    _check_directory(path, directory)


def _check_writable(path: Path) -> None:
    """A file that is appended to, and made where it is not there."""
    if not path.exists():
        _check_directory(path, path.parent)
        return
    try:
        trust.check_parents(path)
        owner = path.stat().st_uid
    except OSError as failed:
        raise ConfigError(f"{path} cannot be used: {failed.strerror}") from None
    if owner not in (0, os.geteuid()) or not os.access(path, os.W_OK):
        raise ConfigError(f"{path} cannot be written by uid {os.geteuid()}", hint="check its owner and mode")


def _check_directory(path: Path, directory: Path) -> None:
    try:
        trust.check_parents(path)
    except OSError:
        raise ConfigError(f"the directory {directory} is not there", hint="make that directory") from None
    if not directory.is_dir() or not os.access(directory, os.W_OK | os.X_OK):
        raise ConfigError(
            f"{path} cannot be made by uid {os.geteuid()} in {directory}", hint="check its owner and mode"
        )
