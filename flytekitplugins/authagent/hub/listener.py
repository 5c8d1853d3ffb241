"""
The hub's address: TLS with the operator's certificate, or plaintext on loopback.

Connections are accepted here, one by one, so that they are counted before their handshake: who connects and says
nothing would otherwise cost a descriptor that no limit sees.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections import Counter
from collections.abc import Callable
from urllib.parse import urlsplit

from flytekitplugins.authagent import trust
from flytekitplugins.authagent.agent.connections import Connections, network
from flytekitplugins.authagent.agent.hub_settings import TlsFiles
from flytekitplugins.authagent.errors import ConfigError

logger = logging.getLogger(__name__)

MAX_CONNECTIONS = 2048
MAX_CONNECTIONS_PER_ADDRESS = 256
MAX_HANDSHAKES = 512
"""Where so many go on, others wait in the backlog."""

MAX_HANDSHAKES_PER_ADDRESS = 256
HANDSHAKE_SECONDS = 5.0
BACKLOG = 1024
AT_ONCE = 64
PAUSE = 0.05
"""Seconds after which it is tried again where there is no room, or the process has no descriptor left."""

LOOK_SECONDS = 5.0
"""How often it is looked whether the certificate has changed."""

MAX_FILE = 1 << 20


class Certificate:
    """The files of a certificate, and the TLS context of what stood in them when they were last good."""

    def __init__(self, files: TlsFiles) -> None:
        self._files = files
        self._stamp = self._stamped()
        self.context = _context(files)

    def look(self) -> bool:
        """Whether there is a new one. One that cannot be used leaves the old one in use."""
        stamp = self._stamped()
        if stamp == self._stamp:
            return False
        try:
            self.context = _context(self._files)
        except ConfigError as wrong:
            logger.warning("the old certificate stays in use: %s", wrong)
            return False
        finally:
            self._stamp = stamp
        logger.info("the certificate was read again")
        return True

    def _stamped(self) -> tuple[object, ...]:
        """What changes with the files; links are followed, as Kubernetes swaps them."""
        found: list[object] = []
        for path in (self._files.certificate_file, self._files.key_file):
            try:
                facts = path.stat()
            except OSError:
                found.append(None)
            else:
                found.append((facts.st_ino, facts.st_mtime_ns, facts.st_size))
        return tuple(found)


def _context(files: TlsFiles) -> ssl.SSLContext:
    """Raises `ConfigError` for files that are loose, missing, or do not belong together."""
    for name, path, secret in (("certificate_file", files.certificate_file, False), ("key_file", files.key_file, True)):
        try:
            trust.read(path, secret=secret, limit=MAX_FILE)
        except FileNotFoundError:
            raise ConfigError(f"tls: {name} {path} is not there") from None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_cert_chain(files.certificate_file, files.key_file, password=_no_password)
    except (ssl.SSLError, OSError, ValueError):
        raise ConfigError(
            f"tls: {files.certificate_file} and {files.key_file} are no certificate and its key",
            hint="both in PEM, the chain with the server's certificate first, the key unencrypted",
        ) from None
    return context


def _no_password() -> str:
    """OpenSSL would ask at the terminal."""
    raise ValueError("the key is encrypted")


class NetworkListener:
    """Accepts at `url` until `close`. `made` makes a connection of the event loop."""

    def __init__(
        self,
        url: str,
        certificate: Certificate | None,
        made: Callable[[], asyncio.Protocol],
        connections: Connections,
    ) -> None:
        self._certificate = certificate
        self._made, self._connections = made, connections
        self._handshakes: set[asyncio.Task[None]] = set()
        self._by_address: Counter[str] = Counter()
        self._looked = 0.0
        self._closed = False
        self._loop = asyncio.get_running_loop()
        self._socket = _bound(url)
        self.port: int = self._socket.getsockname()[1]
        self._listen()

    def use(self, certificate: Certificate | None) -> None:
        """Show this one to whoever connects from now on."""
        self._certificate = certificate

    def sweep(self, now: float) -> None:
        """Look after the certificate; `now` is by the event loop's clock."""
        if self._certificate is not None and now > self._looked + LOOK_SECONDS:
            self._looked = now
            self._certificate.look()

    def close(self) -> None:
        """Nobody is accepted any more."""
        self._closed = True
        self._loop.remove_reader(self._socket.fileno())
        self._socket.close()
        for handshake in self._handshakes:
            handshake.cancel()

    def _listen(self) -> None:
        if not self._closed:
            self._loop.add_reader(self._socket.fileno(), self._accept)

    def _accept(self) -> None:
        room = min(AT_ONCE, MAX_HANDSHAKES - len(self._handshakes))
        if room <= 0:
            self._loop.remove_reader(self._socket.fileno())
            self._loop.call_later(PAUSE, self._listen)
            return
        try:
            for _ in range(room):
                connection, address = self._socket.accept()
                self._admit(connection, network(str(address[0])))
        except (BlockingIOError, ConnectionAbortedError):
            return
        except OSError as failed:
            logger.warning("no connection can be accepted: %s", failed.strerror)
            self._loop.remove_reader(self._socket.fileno())
            self._loop.call_later(PAUSE, self._listen)

    def _admit(self, connection: socket.socket, address: str) -> None:
        if self._by_address[address] >= MAX_HANDSHAKES_PER_ADDRESS or not self._connections.have_room():
            connection.close()
            return
        connection.setblocking(False)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._by_address[address] += 1
        task = self._loop.create_task(self._shake_hands(connection))
        self._handshakes.add(task)
        task.add_done_callback(lambda done: self._left(done, address))

    async def _shake_hands(self, connection: socket.socket) -> None:
        secured = {}
        if self._certificate is not None:
            secured = {"ssl": self._certificate.context, "ssl_handshake_timeout": HANDSHAKE_SECONDS}
        try:
            await self._loop.connect_accepted_socket(self._made, connection, **secured)  # type: ignore[arg-type] # by name
        except (OSError, asyncio.TimeoutError) as failed:  # ssl.SSLError is an OSError
            logger.debug("a connection ended before it was served: %s", type(failed).__name__)
            connection.close()

    def _left(self, task: asyncio.Task[None], address: str) -> None:
        self._handshakes.discard(task)
        self._by_address[address] -= 1
        if not self._by_address[address]:
            del self._by_address[address]
        if not task.cancelled():
            task.exception()


def _bound(url: str) -> socket.socket:
    """Raises `ConfigError` where it cannot be listened there."""
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or 0
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
        listening.listen(BACKLOG)
    except OSError as failed:
        listening.close()
        raise ConfigError(f"listen: {url} cannot be listened on: {failed.strerror or 'it is no address'}") from None
    listening.setblocking(False)
    return listening
