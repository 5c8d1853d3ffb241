"""A real PostgreSQL of Debian's, which tests start, stop and kill."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from peers import need

from flytekitplugins.authagent.sandbox.port import free_port

PASSWORD = "n3ver-in-a-message"


def binaries() -> Path | None:
    """Where the newest one's programs are; Debian keeps them off the PATH."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: float(path.parts[-3]))
    return found[-1].parent if found else None


class Postgres:
    """A server on a loopback port, whose data is in a directory of its own."""

    def __init__(self, home: Path, bin: Path) -> None:
        self.home, self.bin = home, bin
        self.port = free_port()
        self._names = 0

    def url(self, database: str = "postgres", password: str = PASSWORD) -> str:
        return f"postgresql://hub:{password}@127.0.0.1:{self.port}/{database}"

    def new_database(self) -> str:
        """The URL of an empty one."""
        self._names += 1
        self.sql(f"CREATE DATABASE empty{self._names}")
        return self.url(f"empty{self._names}")

    def sql(self, text: str, url: str = "") -> str:
        """What psql prints."""
        command = [self.bin / "psql", "-XAtq", "-v", "ON_ERROR_STOP=1", url or self.url(), "-c", text]
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=30).stdout.strip()

    def initialise(self) -> None:
        secret = self.home / "password"
        secret.write_text(PASSWORD)
        self._own(secret)
        data = self.home / "data"
        self._run("initdb", "-D", data, "-U", "hub", "-A", "scram-sha-256", "--pwfile", secret, "-N", "-E", "UTF8")
        with (data / "postgresql.conf").open("a") as settings:
            settings.write(
                f"port = {self.port}\nlisten_addresses = '127.0.0.1'\nunix_socket_directories = ''\n"
                "fsync = off\nmax_connections = 100\nshared_buffers = 32MB\n"
            )

    def start(self) -> None:
        self._run("pg_ctl", "-D", self.home / "data", "-l", self.home / "log", "-w", "-t", "30", "start")

    def stop(self, mode: str = "immediate") -> None:
        self._run("pg_ctl", "-D", self.home / "data", "-w", "-t", "30", "-m", mode, "stop")

    def _own(self, path: Path) -> None:
        if os.geteuid() == 0:
            shutil.chown(path, *_somebody())

    def _run(self, program: str, *arguments: object) -> None:
        user, group = _somebody() if os.geteuid() == 0 else (None, None)  # PostgreSQL refuses to run as root
        log = self.home / "programs.log"
        with log.open("ab") as output:  # no pipe: the server that pg_ctl starts would keep it open
            done = subprocess.run(
                [self.bin / program, *map(str, arguments)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=self.home,
                env={"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"},
                user=user,
                group=group,
                extra_groups=[] if user else None,
                timeout=60,
                check=False,
            )
        assert done.returncode == 0, log.read_text()[-2000:]


def _somebody() -> tuple[str, str]:
    return "nobody", "nogroup"


@contextmanager
def running() -> Iterator[Postgres]:
    """A server with one role, `hub`, whose password is `PASSWORD`."""
    found = binaries()
    need("PostgreSQL (Debian: apt-get install postgresql)", found)
    assert found
    home = Path(tempfile.mkdtemp(prefix="authagent-pg-", dir="/tmp"))  # whom nobody else's directory is above
    server = Postgres(home, found)
    server._own(home)
    try:
        server.initialise()
        server.start()
        try:
            yield server
        finally:
            if (home / "data" / "postmaster.pid").exists():
                server.stop()
    finally:
        shutil.rmtree(home, ignore_errors=True)
