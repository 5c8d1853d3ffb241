"""The process: it locks itself up, listens, answers until it is told to stop, and leaves nothing behind."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import logging
import os
import resource
import signal
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

from flytekitplugins.authagent import yaml_file
from flytekitplugins.authagent.agent.audit import Audit
from flytekitplugins.authagent.agent.file import AgentFile
from flytekitplugins.authagent.agent.listener import Listener
from flytekitplugins.authagent.agent.mint import Mint
from flytekitplugins.authagent.errors import ConfigError

logger = logging.getLogger(__name__)

DEFAULT_FILE = Path("/etc/authagent/agent.yaml")

DRAIN_SECONDS = 5.0
"""For requests that are being answered when the agent is told to stop."""

_PR_SET_DUMPABLE = 4


def load(path: Path, socket: Path | None = None) -> AgentFile:
    """
    The configuration, with `socket` in the place of its own.

    Raises `ConfigError`, also where it is not there.
    """
    try:
        file = yaml_file.load(path, AgentFile)
    except FileNotFoundError:
        raise ConfigError(f"{path} is not there", hint="name the file with --config") from None
    return file if socket is None else file.model_copy(update={"socket": socket})


def run(file: AgentFile) -> None:
    """
    Serve until SIGTERM or SIGINT.

    Raises `ConfigError` for a socket, an audit file or an address that cannot be used, and where the extra is missing.
    """
    loop = _event_loop()
    lock_up()
    with ExitStack() as stack:
        audit = Audit(file.audit)
        stack.callback(audit.close)
        listener = Listener(file.socket, mode=file.mode, group=file.group)
        stack.callback(listener.close)
        try:
            loop.run_until_complete(_serve(file, listener, audit))
        finally:
            loop.close()


def lock_up() -> None:
    """No core file, and no debugger of the same user: the memory holds tokens."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0):
        logger.warning("the process could not be made undumpable")


def _event_loop() -> asyncio.AbstractEventLoop:
    try:
        import httptools  # noqa: F401 - what the connections need
        import uvloop
    except ImportError as missing:
        raise ConfigError(
            f"{missing.name} is not installed", hint="pip install 'flytekitplugins-authagent[agent]'"
        ) from None
    loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
    return loop


async def _serve(file: AgentFile, listener: Listener, audit: Audit) -> None:
    from flytekitplugins.authagent.agent.connection import SWEEP_SECONDS, Connection, Connections
    from flytekitplugins.authagent.agent.server import Server

    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    connections = Connections()
    server = Server(file, Mint(file.upstreams), audit, uid=os.geteuid(), connections=connections)
    made = partial(Connection, server.on_socket, connections, attested=True)
    servers: list[Any] = [await loop.create_unix_server(made, sock=listener.socket)]
    if file.health:
        servers.append(await _health(file.health, partial(Connection, server.on_address, connections, attested=False)))
    gc.freeze()  # what is here now stays: the collector need not look at it again while requests are answered
    logger.info("serving %s for %d rules", file.socket, len(file.rules))
    sweeping = asyncio.ensure_future(_sweep(connections, SWEEP_SECONDS))
    await stop.wait()
    logger.info("stopping")
    for listening in servers:
        listening.close()
    await connections.drain(DRAIN_SECONDS)
    sweeping.cancel()


async def _sweep(connections: Any, seconds: float) -> None:
    loop = asyncio.get_running_loop()
    while True:
        await asyncio.sleep(seconds)
        connections.sweep(loop.time())


async def _health(address: str, made: Any) -> Any:
    host, _, port = address.rpartition(":")
    try:
        return await asyncio.get_running_loop().create_server(made, host.strip("[]"), int(port))
    except OSError as failed:
        raise ConfigError(f"health: {address} cannot be listened on: {failed.strerror}") from None
