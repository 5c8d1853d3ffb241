"""A Flyte, an agent and a hub that give the caller's token back: no command, log or error shows it."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc
import pytest
import scripted_agent
import scripted_hub
import yaml
from flyteidl.service.auth_pb2 import PublicClientAuthConfigResponse
from flyteidl.service.identity_pb2 import UserInfoResponse
from quoting_peer import FORMS, PLACES
from test_peers_that_quote import check, run

pytestmark = pytest.mark.timeout(180)


class Quoting(grpc.GenericRpcHandler):  # type: ignore[misc] # grpc has no types
    """Answers every method, of whatever service, with `code` and the caller's token, in details and in its trailer."""

    def __init__(self, code: grpc.StatusCode | None, form: str) -> None:
        self.code, self.form, self.quoted = code, form, 0

    def service(self, details: Any) -> grpc.RpcMethodHandler:
        return grpc.unary_unary_rpc_method_handler(lambda _, context: self._answer(details.method, context))

    def _answer(self, method: str, context: grpc.ServicerContext) -> bytes:
        if method.endswith("GetPublicClientConfig"):
            return PublicClientAuthConfigResponse(client_id="flytectl").SerializeToString()  # type: ignore[no-any-return]
        sent = " ".join(value for key, value in context.invocation_metadata() if key == "authorization")
        texts = FORMS[self.form](sent.removeprefix("Bearer "))
        self.quoted += bool(sent)
        context.set_trailing_metadata((("x-token", texts[0].replace("\n", "")), ("www-authenticate", texts[-1])))
        if self.code is None:
            return UserInfoResponse(subject=texts[0], name=" ".join(texts), email=texts[-1]).SerializeToString()  # type: ignore[no-any-return]
        context.abort(self.code, f"invalid audience or expired: {' '.join(texts)}")
        return b""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    tmp_path.chmod(0o700)
    return tmp_path


def written(file: Path, text: str) -> Path:
    file.write_text(text)
    file.chmod(0o600)
    return file


CODES = [None, *(c for c in grpc.StatusCode if c is not grpc.StatusCode.OK)]


@pytest.mark.parametrize("code", CODES, ids=str)
def test_a_flyte_is_not_quoted(code: grpc.StatusCode | None, home: Path) -> None:
    token = secrets.token_urlsafe(24)
    forms = ("raw", "in a sentence", "base64") if code in (None, grpc.StatusCode.UNAUTHENTICATED) else ("raw",)
    for form in forms:
        handler = Quoting(code, form)
        server = grpc.server(futures.ThreadPoolExecutor(4), handlers=[handler])
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        try:
            environ = {
                "AUTHAGENT_TOKEN_FILE": str(written(home / "token", token)),
                "FLYTE_PLATFORM_URL": f"127.0.0.1:{port}",
                "FLYTE_PLATFORM_INSECURE": "true",
            }
            seen = run(
                [["whoami"], ["whoami", "--json"], ["doctor"], ["doctor", "--json"], ["status"]], home, **environ
            )
        finally:
            server.stop(None)
        assert handler.quoted >= 2, seen
        check(seen, {token})


@pytest.fixture
def hub() -> Iterator[scripted_hub.Hub]:
    with scripted_hub.running(token=None) as it:
        yield it


@pytest.mark.parametrize("place", [*PLACES, "a grant"])
def test_a_hub_is_not_quoted(place: str, hub: scripted_hub.Hub, home: Path) -> None:
    token = secrets.token_urlsafe(24)
    if place == "a grant":
        hub.changes = {"subject": token, "reason": token, "scope": f"{token[:16]} {token[16:]}"}
        hub.give("p:d:n")
    else:
        status, headers, body = PLACES[place]([token])
        for path in ("POST /grants", "GET /grants", "POST /grants/revoke", "GET /grants/ID"):
            hub.answers[path] = (status, headers, body)
    environ = {"AUTHAGENT_HUB": hub.url, "AUTHAGENT_HUB_TOKEN_FILE": str(written(home / "token", token))}
    commands = [["grant", "p:d:n", "--no-browser"], ["grant", "p:d:n", "--json"], ["grants"], ["grants", "--json"]]
    commands += [["revoke", "p:d:n"], ["run", "--execution", "p:d:n", "--", "true"], ["run", "--", "true"]]
    seen = run(commands, home, **environ)
    assert f"Bearer {token}" in hub.authorizations
    check(seen, {token})


@pytest.mark.parametrize("place", [*PLACES, "who we are"])
def test_an_agent_is_not_quoted(place: str, home: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    token = secrets.token_urlsafe(24)
    socket = home / "agent.sock"
    with scripted_agent.answering(socket, lambda: "a-good-token") as agent:
        if place == "who we are":
            agent.identity |= {"attestor": token, "uid": token, "pod": {"namespace": token, "name": token[:16]}}
        else:
            status, _, body = PLACES[place]([token])
            for path in ("/token", "/identity", "/grants/children"):
                agent.answers[path] = (status, body)
        environ = {
            "AUTHAGENT_SOCKET": str(socket),
            "AUTHAGENT_POD_TOKEN": str(written(home / "pod-token", token)),
        }
        commands = [["token"], ["status"], ["status", "--json"], ["whoami"], ["doctor", "--json"]]
        seen = run(commands, home, **environ)
        assert any(asked.form.get("client_assertion") == token for asked in agent.asked), seen
    check(seen, {token})


def test_a_command_that_prints_a_token_as_a_key_is_not_quoted(home: Path) -> None:
    token = secrets.token_urlsafe(24)
    script = written(home / "prints", json.dumps({token: 1, "access_token": 5}))
    config = {"bindings": [{"provider": {"kind": "command", "command": ["sh", "-c", f"cat {script}"]}}]}
    environ = {"AUTHAGENT_CONFIG": str(written(home / "authagent.yaml", yaml.safe_dump(config)))}
    seen = run([["token"], ["status", "--json"], ["doctor"]], home, **environ)
    assert "another key" in seen
    check(seen, {token})
