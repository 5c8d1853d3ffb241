"""A real Secret Service: gnome-keyring on a D-Bus of its own, gone without a trace when its block ends."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from peers import need

BUS_NAME = "org.freedesktop.secrets"
PATIENCE = 10.0


def needed() -> None:
    """Skip the test where there is none."""
    need("gnome-keyring and dbus", shutil.which("gnome-keyring-daemon") and shutil.which("dbus-daemon"))


@contextlib.contextmanager
def running(home: Path, *, password: str | None = "\n") -> Iterator[dict[str, str]]:
    """
    A session with the keyring of `home`, unlocked with `password`; with `None` it stays locked.

    Yields the variables by which a process finds it. The keyring's file stays in `home`.
    """
    needed()
    runtime = home / "runtime"
    runtime.mkdir(mode=0o700, parents=True, exist_ok=True)
    environ = {
        "HOME": str(home),
        "XDG_RUNTIME_DIR": str(runtime),
        "XDG_DATA_HOME": str(home / "data"),
        "PATH": os.environ["PATH"],
    }
    with _bus(environ) as address:
        environ["DBUS_SESSION_BUS_ADDRESS"] = address
        with _daemon(environ, password):
            yield environ


@contextlib.contextmanager
def silent(home: Path) -> Iterator[dict[str, str]]:
    """A session whose keyring has the name of the service, and answers nothing. Yields the variable that finds it."""
    needed()
    home.mkdir(mode=0o700, exist_ok=True)
    with _bus({"HOME": str(home), "PATH": os.environ["PATH"]}) as address:
        from jeepney import DBusAddress, new_method_call
        from jeepney.io.blocking import open_dbus_connection

        bus = DBusAddress("/org/freedesktop/DBus", "org.freedesktop.DBus", "org.freedesktop.DBus")
        with contextlib.closing(open_dbus_connection(bus=address)) as connection:
            connection.send_and_get_reply(new_method_call(bus, "RequestName", "su", (BUS_NAME, 0)))
            yield {"DBUS_SESSION_BUS_ADDRESS": address}


@contextlib.contextmanager
def _bus(environ: dict[str, str]) -> Iterator[str]:
    # The configuration of its own has no service files: a daemon that the bus starts itself would outlive it.
    configuration = Path(environ["HOME"]) / "bus.conf"
    configuration.write_text(
        "<busconfig><type>session</type><listen>unix:tmpdir=/tmp</listen>"
        '<policy context="default"><allow send_destination="*"/><allow receive_sender="*"/><allow own="*"/></policy>'
        "</busconfig>"
    )
    bus = subprocess.Popen(
        ["dbus-daemon", "--nofork", "--print-address", f"--config-file={configuration}"],
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert bus.stdout
        yield bus.stdout.readline().strip()
    finally:
        _end(bus)


@contextlib.contextmanager
def _daemon(environ: dict[str, str], password: str | None) -> Iterator[None]:
    unlock = [] if password is None else ["--unlock"]
    daemon = subprocess.Popen(
        ["gnome-keyring-daemon", "--foreground", "--components=secrets", *unlock],
        env=environ,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert daemon.stdin
        daemon.stdin.write(password or "")  # not empty, or the daemon asks in a window
        daemon.stdin.close()
        _wait_for_the_name(environ)
        yield
    finally:
        _end(daemon)


def _wait_for_the_name(environ: dict[str, str]) -> None:
    from jeepney import DBusAddress, new_method_call
    from jeepney.io.blocking import open_dbus_connection

    bus = DBusAddress("/org/freedesktop/DBus", "org.freedesktop.DBus", "org.freedesktop.DBus")
    deadline = time.monotonic() + PATIENCE
    with contextlib.closing(open_dbus_connection(bus=environ["DBUS_SESSION_BUS_ADDRESS"])) as connection:
        while time.monotonic() < deadline:
            reply = connection.send_and_get_reply(new_method_call(bus, "NameHasOwner", "s", (BUS_NAME,)))
            if reply.body[0]:
                return
            time.sleep(0.01)
    raise TimeoutError("the keyring did not come up")


def _end(process: subprocess.Popen[str]) -> None:
    process.terminate()
    try:
        process.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
        process.wait()


def python(program: str, environ: dict[str, str], *arguments: str) -> str:
    """What `program` prints in a process that finds the keyring."""
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        env={**environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout
