"""One run of the sandbox: start it, run the user's command in it, wait for what that started, stop it."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from flytekitplugins.authagent.errors import ConfigError
from flytekitplugins.authagent.sandbox import drain, environment
from flytekitplugins.authagent.sandbox.command import Command
from flytekitplugins.authagent.sandbox.hub_process import CONSENTS
from flytekitplugins.authagent.sandbox.posture import POSTURES
from flytekitplugins.authagent.sandbox.sandbox import Sandbox
from flytekitplugins.authagent.sandbox.signals import Signals

LONGEST_DIRECTORY = 107 - len("/agent.sock")
"""Bytes: Linux limits the path of a Unix socket."""

Say = Callable[[str], None]
"""Where a line for people goes."""


@dataclass(frozen=True)
class Options:
    """What `authagent sandbox` was told. Times are in seconds."""

    command: tuple[str, ...] = ()
    ready: Path | None = None
    drain: float = 300.0
    directory: Path | None = None
    token_lifetime: int = 300
    slots: int = 2
    posture: str = "internal"
    """One of `POSTURES`."""
    hub: bool = False
    consent: str | None = None
    """One of `CONSENTS`, the first unless set; for the hub alone."""

    @property
    def consent_of_hub(self) -> str | None:
        """How a hub asks people, where one is wanted. Raises `ConfigError` where there cannot be one."""
        if self.hub and POSTURES[self.posture].issuer != "external":
            raise ConfigError(
                f"--hub does not go with --posture {self.posture}: flyteadmin's own server cannot exchange tokens, nor "
                "issue any for a person on another's word",
                hint="--posture external",
            )
        if self.consent and not self.hub:
            raise ConfigError("--consent is for a hub, and none is wanted", hint="--hub")
        return (self.consent or CONSENTS[0]) if self.hub else None


def run(options: Options, say: Say) -> int:
    """The whole run; see `cli.sandbox.run` for what comes back. Only the main thread can do this."""
    consent = options.consent_of_hub
    _check_ready(options.ready)
    with Signals() as signals, _directory(options.directory) as directory:
        posture = POSTURES[options.posture]
        sandbox = Sandbox(
            directory, posture, token_lifetime=options.token_lifetime, slots=options.slots, consent=consent
        )
        status = 0
        try:
            sandbox.start(lambda: signals.received is not None)
            if not signals.received:
                _introduce(sandbox, say)
                if options.ready:
                    sandbox.write_ready(options.ready)
                status = _in_it(sandbox, options, signals, say)
        finally:
            sandbox.stop()
    return 128 + signals.received if signals.received else status


def _check_ready(path: Path | None) -> None:
    """Take away what an earlier run left there, or somebody would take it for ours. Raises `ConfigError`."""
    if path is None:
        return
    try:
        path.unlink(missing_ok=True)
    except OSError as wrong:
        raise ConfigError(f"--ready {path} cannot be written: {wrong.strerror}") from None
    if not os.access(path.absolute().parent, os.W_OK):
        raise ConfigError(f"--ready {path} cannot be written", hint="is its directory there, and ours to write?")


def _in_it(sandbox: Sandbox, options: Options, signals: Signals, say: Say) -> int:
    if not options.command:
        while not signals.received:
            signals.wait(3600)
        return 0
    before = {execution["id"]["name"] for execution in sandbox.control_plane.executions()}
    home = sandbox.directory / "home"
    command = Command(
        options.command,
        environment.of_command(
            os.environ,
            home=home,
            endpoint=sandbox.control_plane.endpoint,
            agent_socket=sandbox.agent.socket,
            hub=sandbox.hub.url if sandbox.hub else None,
        ),
    )
    try:
        status = command.run(signals)
    finally:
        command.stop()

    def started() -> list[drain.Execution]:
        return [e for e in sandbox.control_plane.executions() if e["id"]["name"] not in before]

    executions = drain.wait(started, options.drain, signals)
    for execution in executions:
        say(f"authagent sandbox: {drain.line(execution)}")
    late = [execution["id"]["name"] for execution in drain.running(executions)]
    if late and not signals.received:
        say(f"authagent sandbox: still running after {options.drain:g} s (--drain): {', '.join(late)}")
    return status or (0 if drain.all_well(executions) else 1)


def _introduce(sandbox: Sandbox, say: Say) -> None:
    say("authagent sandbox: for demos and tests only. Loopback, plain HTTP, keys and secrets made for this run.")
    for name, where in {
        "Flyte": f"{sandbox.control_plane.endpoint} (insecure)",
        "OAuth provider": sandbox.issuer.issuer,
        "control": sandbox.control.url,
        "agent": sandbox.agent.socket,
        **({"hub": f"{sandbox.hub.url} and {sandbox.hub.socket}"} if sandbox.hub else {}),
        "files": sandbox.directory,
    }.items():
        say(f"  {name:<14} {where}")
    variables = environment.of_client(sandbox.control_plane.endpoint, sandbox.agent.socket)
    variables |= environment.of_hub(sandbox.hub.url if sandbox.hub else None)
    say(f"  to use it      env {' '.join(f'{n}={v}' for n, v in variables.items())} pyflyte ...")


@contextmanager
def _directory(wanted: Path | None) -> Iterator[Path]:
    """A directory that only we can enter: `wanted`, which is kept, or a temporary one, which is not."""
    if wanted is None:
        usual = tempfile.gettempdir()
        short = len(os.fsencode(usual)) + len("/authagent-12345678") <= LONGEST_DIRECTORY
        # What tasks leave there may be read-only, or still be in use.
        with tempfile.TemporaryDirectory(
            prefix="authagent-",
            dir=usual if short else "/tmp",  # noqa: S108 - what mkdtemp makes there is ours alone
            ignore_cleanup_errors=True,
        ) as made:
            yield Path(made)
        return
    directory = wanted.expanduser().absolute()
    if len(os.fsencode(directory)) > LONGEST_DIRECTORY:
        raise ConfigError(f"{directory} is too long for a Unix socket in it", hint=f"at most {LONGEST_DIRECTORY} bytes")
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        facts = directory.stat()
        if facts.st_uid != os.geteuid():
            raise ConfigError(f"{directory} is not ours", hint="name one of your own, or one that is not there yet")
        if any(directory.iterdir()):
            raise ConfigError(f"{directory} is not empty", hint="name an empty one, or one that is not there yet")
        directory.chmod(0o700)
    except OSError as wrong:
        raise ConfigError(f"{directory} cannot be used: {wrong.strerror}") from None
    yield directory
