"""The process: it locks itself up, listens, answers until it is told to stop, and leaves nothing behind."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import logging
import os
import resource
import signal
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from flytekitplugins.authagent import extras, yaml_file
from flytekitplugins.authagent.agent import systemd
from flytekitplugins.authagent.agent.attestor import Attestor, Kernel
from flytekitplugins.authagent.agent.audit import Audit
from flytekitplugins.authagent.agent.delegation import Delegation
from flytekitplugins.authagent.agent.file import AgentFile
from flytekitplugins.authagent.agent.forward import Forward
from flytekitplugins.authagent.agent.listener import BACKLOG, Listener
from flytekitplugins.authagent.agent.mint import Mint
from flytekitplugins.authagent.agent.systemd import Notifier
from flytekitplugins.authagent.errors import AuthAgentError, ConfigError

if TYPE_CHECKING:
    from flytekitplugins.authagent.agent.server import Server

logger = logging.getLogger(__name__)

DEFAULT_FILE = Path("/etc/authagent/agent.yaml")

DRAIN_SECONDS = 5.0
"""For requests that are being answered when the agent is told to stop."""

_PR_SET_DUMPABLE = 4

_FOR_A_RESTART = ("socket", "mode", "group", "health", "listen")
"""What is listened on cannot change while others are connected to it."""


def load(path: Path, socket: Path | None = None) -> AgentFile:
    """
    The configuration, with `socket` in the place of its own.

    Raises `ConfigError`, also where it is not there.
    """
    try:
        file = yaml_file.load(path, AgentFile)
    except FileNotFoundError:
        raise ConfigError(
            f"{path} is not there", hint="check its path; `authagent serve` takes it as --config FILE"
        ) from None
    return file if socket is None else file.model_copy(update={"socket": socket})


def check_extra(file: AgentFile) -> None:
    """Raise `ConfigError` where the extra is not installed that serving `file` needs."""
    if file.hub:
        extras.need("hub", "a hub")
    else:
        extras.need("agent", "the agent")


class Hub(Protocol):
    """What a process does beside an agent's work where its file has `hub:`. Called on the event loop."""

    @property
    def delegation(self) -> Delegation:
        """What the server asks for tokens of people."""

    async def start(self, server: Server) -> None:
        """Listen, and begin what goes on in the background. Raises `ConfigError`."""

    def prepare(self, file: AgentFile) -> Callable[[], None]:
        """
        Make ready for a configuration that was read anew, in a thread; what comes back adopts it.

        Raises `ConfigError`, and `ProviderUnavailable` where it cannot be told for now whether it can be used; nothing
        has changed then. To adopt it needs neither a thread nor time, and does not fail.
        """

    def sweep(self, now: float) -> None:
        """End what takes too long; `now` is by the event loop's clock."""

    async def stop(self, seconds: float) -> None:
        """Let what is being answered finish, for at most so long, and end the rest."""

    def close(self) -> None:
        """Give back what is held. The event loop runs no more."""


MakeHub = Callable[[AgentFile, Audit, Mint], Hub]


def run(path: Path, socket: Path | None = None, make_hub: MakeHub | None = None) -> None:
    """
    Serve what `path` says until SIGTERM or SIGINT, and what it says then after each SIGHUP.

    `make_hub` makes what a configuration with `hub:` needs.

    Raises `ConfigError` for a configuration, a socket, an audit file or an address that cannot be used, and where the
    extra is missing.
    """
    read = partial(load, path, socket)
    file = read()
    check_extra(file)
    loop = _event_loop()
    lock_up()
    notifier = Notifier(os.environ)
    with ExitStack() as stack:
        audit = Audit(file.audit)  # open till the process ends: a thread that is at something then still writes to it
        inherited = systemd.listening(os.environ)
        listener = None
        if file.socket is not None:
            listener = Listener(file.socket, mode=file.mode, group=file.group, inherited=inherited)
            stack.callback(listener.close)
        serving = _Serving(file, read, audit, notifier, make_hub)
        stack.callback(serving.close)
        try:
            loop.run_until_complete(serving.until_stopped(listener))
        finally:
            loop.close()


def lock_up() -> None:
    """No core file, and no debugger of the same user: the memory holds tokens."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0):
        logger.warning("the process could not be made undumpable")


def _event_loop() -> asyncio.AbstractEventLoop:
    import uvloop

    loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
    return loop


class _Serving:
    """What happens between the first request and the last."""

    def __init__(
        self,
        file: AgentFile,
        read: Callable[[], AgentFile],
        audit: Audit,
        notifier: Notifier,
        make_hub: MakeHub | None,
    ) -> None:
        from flytekitplugins.authagent.agent.connections import Connections
        from flytekitplugins.authagent.agent.server import Server

        self._file = file
        self._read = read
        self._audit = audit
        self._notifier = notifier
        self._attestor = _attestor(file)
        self._mint = Mint(file)
        self._connections = Connections()
        self._hub = make_hub(file, audit, self._mint) if file.hub and make_hub else None
        self._forward = Forward(file.upstreams)
        self._server = Server(
            file,
            self._attestor,
            self._mint,
            audit,
            uid=os.geteuid(),
            connections=self._connections,
            delegation=self._hub.delegation if self._hub else self._forward,
        )
        self._reloading = asyncio.Lock()

    async def until_stopped(self, listener: Listener | None) -> None:
        """Listen, answer, stop."""
        from flytekitplugins.authagent.agent.connection import Connection

        loop = asyncio.get_running_loop()
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        reloads: set[asyncio.Task[None]] = set()
        loop.add_signal_handler(signal.SIGHUP, lambda: _kept(reloads, loop.create_task(self._reload())))
        servers: list[Any] = []
        if listener is not None:
            made = partial(Connection, self._server.on_socket, self._connections, attested=True)
            servers.append(await loop.create_unix_server(made, sock=listener.socket, backlog=BACKLOG))
        if self._hub:
            await self._hub.start(self._server)
        if self._file.health:
            made = partial(Connection, self._server.on_address, self._connections, attested=False)
            servers.append(await _health(self._file.health, made))
        gc.freeze()  # what is here now stays: the collector need not look at it again while requests are answered
        self._serving()
        sweeping = asyncio.ensure_future(self._sweep())
        await stop.wait()
        logger.info("stopping")
        self._notifier.stopping()
        for listening in servers:
            listening.close()
        await asyncio.gather(
            self._connections.drain(DRAIN_SECONDS), *([self._hub.stop(DRAIN_SECONDS)] if self._hub else [])
        )
        sweeping.cancel()

    def close(self) -> None:
        """What was opened is given back."""
        self._attestor.close()
        self._forward.close()
        if self._hub:
            self._hub.close()

    def _serving(self, note: str = "") -> None:
        where = " and ".join(str(place) for place in (self._file.socket, self._file.listen) if place)
        status = f"serving {where} for {len(self._file.rules)} rules{note}"
        logger.info("%s", status)
        self._notifier.ready(status)

    async def _reload(self) -> None:
        """All of the configuration, or nothing of it: one that cannot be used leaves everything as it was."""
        async with self._reloading:
            self._notifier.reloading()
            try:
                await self._read_again()
            except Exception as wrong:  # whatever it is, the agent goes on, and systemd hears READY=1 again
                # Our own errors hold no secret; what another one holds, nobody knows.
                why = wrong if isinstance(wrong, AuthAgentError) else type(wrong).__name__
                self._server.metrics.reloads["refused"] += 1
                logger.warning("reload failed: the previous configuration stays in force: %s", why)
                self._serving("; the last reload failed, and the log says why")
            else:
                self._server.metrics.reloads["done"] += 1
                self._serving()

    async def _read_again(self) -> None:
        """Read the configuration and adopt it. Nothing is changed before everything that can fail is done."""
        in_thread = asyncio.get_running_loop().run_in_executor
        file = await in_thread(None, self._read)
        _check_same_place(self._file, file)
        adopt = await in_thread(None, self._hub.prepare, file) if self._hub else None
        attestor = self._attestor if _attests_alike(self._file, file) else _attestor(file)
        try:
            providers = self._mint.built(file)
            self._audit.open(file.audit)
        except Exception:
            if attestor is not self._attestor:
                attestor.close()
            raise
        before, self._file, self._attestor = self._attestor, file, attestor
        self._server.adopt(file, attestor, providers)
        self._forward.use(file.upstreams)
        if adopt:
            adopt()
        if before is not attestor:
            before.close()

    async def _sweep(self) -> None:
        from flytekitplugins.authagent.agent.connection import SWEEP_SECONDS

        loop = asyncio.get_running_loop()
        told, every = loop.time(), self._notifier.watchdog_seconds
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            self._connections.sweep(loop.time())
            if self._hub:
                self._hub.sweep(loop.time())
            if every and loop.time() >= told + every / 3:
                told = loop.time()
                self._notifier.alive()


def _kept(tasks: set[asyncio.Task[None]], task: asyncio.Task[None]) -> None:
    """The event loop itself holds tasks loosely."""
    tasks.add(task)
    task.add_done_callback(tasks.discard)


def _attestor(file: AgentFile) -> Attestor:
    if file.attestor == "kernel":
        return Kernel()
    from flytekitplugins.authagent.agent.kubernetes import Kubernetes
    from flytekitplugins.authagent.agent.kubernetes_settings import KubernetesSettings

    return Kubernetes(file.kubernetes or KubernetesSettings())


def _attests_alike(one: AgentFile, other: AgentFile) -> bool:
    return (one.attestor, one.kubernetes) == (other.attestor, other.kubernetes)


def _check_same_place(now: AgentFile, new: AgentFile) -> None:
    changed = [name for name in _FOR_A_RESTART if getattr(now, name) != getattr(new, name)]
    changed += ["hub"] if (now.hub is None) != (new.hub is None) else []
    if changed:
        raise ConfigError(f"{', '.join(changed)}: cannot change while the agent runs", hint="restart it")


async def _health(address: str, made: Any) -> Any:
    host, _, port = address.rpartition(":")
    try:
        return await asyncio.get_running_loop().create_server(made, host.strip("[]"), int(port))
    except OSError as failed:
        raise ConfigError(f"health: {address} cannot be listened on: {failed.strerror}") from None
