"""The hub's address: TLS, its certificate, and what is bounded there."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import ssl
import time
from collections.abc import Iterator
from pathlib import Path

import certificates
import pytest
import running_hub
from running_hub import Hub, World, says, wait_for
from test_grants import fresh
from test_node_agent import node

from flytekitplugins.authagent.sandbox.port import free_port


@contextlib.contextmanager
def with_tls(world: World, directory: Path) -> Iterator[Hub]:
    issued = certificates.issue(directory, "localhost")
    port = free_port()
    with running_hub.running(
        world,
        wait=False,
        listen=f"https://127.0.0.1:{port}",
        tls={"certificate_file": str(issued.certificate), "key_file": str(issued.key)},
        hub={"url": f"https://localhost:{port}"},
    ) as made:
        made.url = f"https://localhost:{port}"
        made.context = ssl.create_default_context(cafile=str(issued.authority))
        made.wait_until_it_answers()
        yield made


def serial(hub: Hub) -> str:
    from urllib.parse import urlsplit

    where = urlsplit(hub.url)
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with (
        socket.create_connection((where.hostname, where.port), timeout=5) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as secured,
    ):
        found = secured.getpeercert(binary_form=True)
        assert found is not None
        return found.hex()


def test_people_and_node_agents_reach_it_by_tls(world: World, tmp_path: Path) -> None:
    with with_tls(world, tmp_path) as hub:
        execution = fresh()
        hub.granted("alice", execution)
        assert says(hub.ask(world.pod_of(execution)))["sub"] == "alice"
        with node(world, hub.url, ca_file=str(tmp_path / "ca.pem")) as its_node:
            assert says(its_node.ask(world.pod_of(execution)))["sub"] == "alice"
        with node(world, hub.url) as its_node:  # it does not know the authority
            assert its_node.ask(world.pod_of(execution)).status == 503


def test_plaintext_and_old_protocols_are_not_spoken(world: World, tmp_path: Path) -> None:
    with with_tls(world, tmp_path) as hub:
        port = int(hub.url.rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port), timeout=8) as plain:
            plain.sendall(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
            with contextlib.suppress(ConnectionResetError):
                assert b"200" not in plain.recv(4096)
        old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
        old.maximum_version = ssl.TLSVersion.TLSv1_1
        with (
            socket.create_connection(("127.0.0.1", port), timeout=5) as plain,
            pytest.raises((ssl.SSLError, ConnectionResetError)),
        ):
            old.wrap_socket(plain)


def test_a_new_certificate_is_shown_without_a_restart_and_a_bad_one_never(world: World, tmp_path: Path) -> None:
    (tmp_path / "next").mkdir()
    renewed = certificates.issue(tmp_path / "next", "localhost")
    with with_tls(world, tmp_path) as hub:
        before = serial(hub)
        shutil.copy(renewed.certificate, tmp_path / "leaf.pem")  # the key is still the old one
        time.sleep(6)
        assert serial(hub) == before
        shutil.copy(renewed.key, tmp_path / "leaf.key")
        wait_for(lambda: serial(hub) != before, 12)
        assert "certificate was read again" in hub.log.read_text()
        os.truncate(tmp_path / "leaf.pem", 10)
        now = serial(hub)
        hub.process.send_signal(signal.SIGHUP)
        time.sleep(1)
        assert serial(hub) == now


def test_who_connects_and_says_nothing_is_ended_and_keeps_nobody_out(world: World, tmp_path: Path) -> None:
    with with_tls(world, tmp_path) as hub:
        port = int(hub.url.rpartition(":")[2])
        silent = [socket.create_connection(("127.0.0.1", port), timeout=5) for _ in range(150)]
        assert hub.get("/livez").status == 200
        time.sleep(7)
        ended = 0
        for connection in silent:
            connection.settimeout(0.2)
            with contextlib.suppress(TimeoutError):
                with contextlib.suppress(ConnectionResetError):
                    assert not connection.recv(16)
                ended += 1
            connection.close()
        assert ended == 150


def test_an_address_that_asks_too_often_is_slowed_down_and_another_is_served(world: World) -> None:
    with running_hub.running(world, hub={"rate": 20}) as hub:
        statuses = [hub.get("/grants", "x").status for _ in range(100)]
        assert statuses.count(429) >= 40
        assert statuses.count(401) >= 20
        answer = hub.get("/grants", "x")
        assert (answer.status, answer.json()["error"]) == (429, "temporarily_unavailable")
        assert answer.headers["retry-after"] == "1"
        time.sleep(1.2)
        assert hub.get("/grants", "x").status == 401


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("PUT", "/grants", 405),
        ("DELETE", "/grants/x", 405),
        ("GET", "/grants/revoke", 405),
        ("GET", "/grants/children", 405),
        ("GET", "/metrics", 404),
        ("GET", "/nothing", 404),
        ("POST", "/.well-known/oauth-protected-resource", 405),
        ("PUT", "/consent/x", 405),
    ],
)
def test_what_is_not_spoken_is_refused(hub: Hub, method: str, path: str, status: int) -> None:
    assert hub.send(method, path, None, {"Authorization": "Bearer x"}).status == status


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"execution=a:b:c&execution=a:b:d",
        b"execution=%ff",
        b"execution=" + b"a" * 400,
        b"execution=a%0d%0ab:c:d",
        b"=&=&=",
        b"\x00",
        b"&".join(b"a%d=b" % n for n in range(40)),
    ],
)
def test_a_body_that_is_no_form_of_ours_is_refused(hub: Hub, world: World, body: bytes) -> None:
    headers = {"Content-Type": "application/x-www-form-urlencoded", "Authorization": f"Bearer {world.token('alice')}"}
    answer = hub.send("POST", "/grants", body, headers)
    assert (answer.status, answer.json()["error"]) == (400, "invalid_request")
    assert hub.send("POST", "/grants", b"{}", headers | {"Content-Type": "application/json"}).status == 415
    assert hub.send("POST", "/grants", b"x" * 70_000, headers).status == 413


def test_it_says_which_tokens_it_takes(hub: Hub, world: World) -> None:
    found = hub.get("/.well-known/oauth-protected-resource").json()
    assert found["resource"] == hub.content["hub"]["people"]["audience"]
    assert found["authorization_servers"] == [world.provider.issuer.issuer]


def test_its_numbers_are_for_the_socket_and_name_nobody(hub: Hub, world: World) -> None:
    execution = fresh()
    hub.granted("alice", execution)
    hub.ask(world.pod_of(execution))

    def numbers() -> str:
        return hub.on_socket("/metrics").body.decode()

    wait_for(lambda: 'authagent_hub_stored{outcome="active"}' in numbers())  # it is counted now and then
    text = numbers()
    assert 'authagent_hub_people_total{outcome="deposited"}' in text
    assert 'authagent_hub_delegations_total{outcome="given"}' in text
    assert "alice" not in text
    assert execution not in text


def test_a_new_configuration_is_adopted_as_a_whole_or_not_at_all(world: World) -> None:
    with running_hub.running(world) as hub:
        execution = fresh()
        hub.granted("alice", execution)
        hub.write(hub.content | {"hub": hub.content["hub"] | {"longest": "2h"}})
        hub.process.send_signal(signal.SIGHUP)
        wait_for(lambda: hub.deposit(world.token("alice"), execution, expires_in="7201").status == 400)
        key = hub.directory / "hub.keys"
        old = key.read_text()
        key.write_text("bmV3IGtleSBuZXcga2V5IG5ldyBrZXkgbmV3IGtleSE=\n")
        hub.process.send_signal(signal.SIGHUP)
        wait_for(lambda: "the previous configuration stays in force" in hub.log.read_text())
        assert hub.ask(world.pod_of(execution)).status == 200
        key.write_text("bmV3IGtleSBuZXcga2V5IG5ldyBrZXkgbmV3IGtleSE=\n" + old)
        hub.process.send_signal(signal.SIGHUP)
        time.sleep(13)  # rows are sealed anew in the background
        key.write_text("bmV3IGtleSBuZXcga2V5IG5ldyBrZXkgbmV3IGtleSE=\n")
        hub.stop()
        hub.start()
        assert says(hub.ask(world.pod_of(execution)))["sub"] == "alice"
        assert json.loads(hub.audit.read_text().splitlines()[-1])["outcome"] == "given"


@pytest.mark.parametrize(("key", "value"), [("url", "https://hub.example.com"), ("store", "memory")])
def test_what_people_and_pages_rely_on_needs_a_restart(world: World, key: str, value: str) -> None:
    with running_hub.running(world) as hub:
        hub.write(hub.content | {"hub": hub.content["hub"] | {key: value, "longest": "2h"}})
        hub.process.send_signal(signal.SIGHUP)
        wait_for(lambda: f"hub: {key}: cannot change while the hub runs" in hub.log.read_text())
        hub.granted("alice", fresh(), expires_in="7201")  # nothing else has changed either


def test_a_wrong_key_is_a_clear_error_at_the_start(world: World) -> None:
    with running_hub.running(world) as hub:
        hub.granted("alice", fresh())
        hub.stop()
        (hub.directory / "hub.keys").write_text("bmV3IGtleSBuZXcga2V5IG5ldyBrZXkgbmV3IGtleSE=\n")
        hub.process = hub._started()
        assert hub.process.wait(20) == 2
        last = hub.log.read_text()
        assert "which is not among the keys" in last
        assert "Traceback" not in last
        assert "bmV3" not in last
