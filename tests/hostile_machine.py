"""
A machine that has an agent, configuration and logins of its own, all of them hostile to a test.

    python tests/hostile_machine.py COMMAND...

runs COMMAND there, and exits with its status. The machine lies in a mount namespace (root is needed), so it ends with
the command and the machine below it stays as it is.
"""

from __future__ import annotations

import os
import pwd
import socket
import subprocess
import sys
import time
from pathlib import Path

HOME = Path(pwd.getpwuid(os.geteuid()).pw_dir)

FILES = {
    "/etc/flyte/authagent.yaml": "bindings: [{provider: {kind: env, variable: OF_THE_MACHINE}}]\n",
    "/etc/authagent/agent.yaml": "no: [agent\n",
    f"{HOME}/.flyte/authagent.yaml": "bindings: [{provider: {kind: env, variable: OF_THE_MACHINE}}]\n",
    f"{HOME}/.flyte/config.yaml": "admin: {endpoint: flyte.of.the.machine, authType: DeviceFlow}\n",
    f"{HOME}/.config/python_keyring/keyringrc.cfg": "[backend]\ndefault-keyring=no.such.Backend\n",
    "/run/secrets/authagent/token": "the.machines.own\n",
    "/run/secrets/kubernetes.io/serviceaccount/token": "the.machines.own\n",
}

AGENT = """
socket: /var/run/authagent/agent.sock
upstreams: {machine: {kind: file, path: /run/authagent-of-the-machine/token}}
rules: [{name: everybody, who: {uid: [0]}, give: {upstream: machine}}]
flyte: {endpoint: "dns:///flyte.of.the.machine", insecure: false}
"""

ENVIRONMENT = {
    "HTTP_PROXY": "http://127.0.0.1:9",
    "HTTPS_PROXY": "http://127.0.0.1:9",
    "https_proxy": "http://127.0.0.1:9",
    "ALL_PROXY": "socks5://127.0.0.1:9",
    "grpc_proxy": "http://127.0.0.1:9",
    "SSL_CERT_FILE": "/nothing/there.pem",
    "REQUESTS_CA_BUNDLE": "/nothing/there.pem",
    "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH": "/nothing/there.pem",
    "AUTHAGENT_SOCKET": "/nothing/there.sock",
    "AUTHAGENT_CONFIG": "/nothing/there.yaml",
    "AUTHAGENT_TOKEN": "of-the-machine",
    "FLYTECTL_CONFIG": "/nothing/there.yaml",
    "FLYTE_PLATFORM_URL": "flyte.of.the.machine",
    "FLYTE_CREDENTIALS_CLIENT_SECRET": "of-the-machine",
    "FLYTE_INTERNAL_EXECUTION_ID": "machine",
    "FLYTE_API_KEY": "of-the-machine",
    "EAGER_API_KEY": "of-the-machine",
    "_UNION_EAGER_API_KEY": "of-the-machine",
    "NOTIFY_SOCKET": "/nothing/there.sock",
    "LISTEN_FDS": "3",
    "LISTEN_PID": "1",
    "CREDENTIALS_DIRECTORY": "/nothing/there",
    "KUBERNETES_SERVICE_HOST": "127.0.0.1",
    "KUBERNETES_SERVICE_PORT": "9",
    "XDG_RUNTIME_DIR": "/nothing/there",
    "XDG_CONFIG_HOME": "/nothing/there",
    "XDG_DATA_HOME": "/nothing/there",
    "DBUS_SESSION_BUS_ADDRESS": "unix:path=/nothing/there",
    "PYTHON_KEYRING_BACKEND": "no.such.Backend",
    "DISPLAY": ":9",
    "BROWSER": "/bin/false",
    "CI": "true",
    "GITHUB_ACTIONS": "true",
    "GIT_DIR": "/nothing/there",
    "HOME": str(HOME),
    "TZ": "Pacific/Kiritimati",
    "LC_ALL": "tr_TR.UTF-8",
}


def main(command: list[str]) -> int:
    """Make the machine, in the namespace that `unshare` has made for us, and run `command` on it."""
    _mount("-t", "tmpfs", "-o", "mode=755", "tmpfs", "/run")
    for place in ("/etc", str(HOME)):
        upper, work = Path(f"/run/upper{place}"), Path(f"/run/work{place}")
        upper.mkdir(parents=True)
        work.mkdir(parents=True)
        _mount("-t", "overlay", "overlay", "-o", f"lowerdir={place},upperdir={upper},workdir={work}", place)
    for name, text in FILES.items():
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text(text)
    own = Path("/run/authagent-of-the-machine")
    own.mkdir(mode=0o700)
    for name, text in (("token", "token-of-the-machine"), ("agent.yaml", AGENT)):
        (own / name).write_text(text)
        (own / name).chmod(0o600)
    serve = [sys.executable, "-m", "flytekitplugins.authagent", "serve", "--config", str(own / "agent.yaml")]
    agent = subprocess.Popen(serve, env={"PATH": os.environ["PATH"]})
    try:
        _wait_for(Path("/run/authagent/agent.sock"), agent)
        return subprocess.run(command, env=os.environ | ENVIRONMENT, check=False).returncode
    finally:
        agent.terminate()
        agent.wait(30)


def _mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True)


def _wait_for(path: Path, agent: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            with socket.socket(socket.AF_UNIX) as connection:
                return connection.connect(str(path))
        except OSError:
            assert agent.poll() is None, "the machine's own agent has ended"
            assert time.monotonic() < deadline
            time.sleep(0.05)


if __name__ == "__main__":
    if os.environ.get("INSIDE") != "1":
        inside = ["unshare", "--mount", "--propagation", "private", sys.executable, *sys.argv]
        os.execvpe(inside[0], inside, os.environ | {"INSIDE": "1"})
    del os.environ["INSIDE"]
    raise SystemExit(main(sys.argv[1:]))
