"""What peers write in their own way, in every answer alike: one line for an endpoint, one for a way."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import scripted_agent
import scripted_hub
from joserfc.jwk import RSAKey

from flytekitplugins.authagent.credential import Secret
from flytekitplugins.authagent.errors import AuthAgentError, Denied, ProviderError
from flytekitplugins.authagent.hub_client import HubClient
from flytekitplugins.authagent.oauth import device, discovery, introspection, jwks, revocation, token_response, userinfo
from flytekitplugins.authagent.oauth.message import Request, Response
from flytekitplugins.authagent.providers import Wanted
from flytekitplugins.authagent.providers.agent import AgentProvider

URL = "https://idp.example.com/x"
SENT = Request(URL, (("client_secret", "pl4nted-secret"),))
TOKEN = {"access_token": "abc", "token_type": "Bearer", "expires_in": 3600, "refresh_token": "r"}
CODE = {"device_code": "d", "user_code": "ABCD", "verification_uri": URL, "expires_in": 3600, "interval": 5}
GRANT = {
    "id": "g", "execution": "p:d:n", "subject": "alice", "scope": "all", "status": "active", "reason": "",
    "created_at": 1, "expires_at": 3600, "launched": True, "children": 0, "revocation": "none",
}  # fmt: skip


class Endpoint(NamedTuple):
    """`read` gives what is read of a status, a content type and a body; `good` is an answer as standards have it."""

    good: dict[str, Any]
    read: Callable[[int, str, bytes], Any]


def of(read: Callable[[Response], Any]) -> Callable[[int, str, bytes], Any]:
    return lambda status, kind, body: read(Response(URL, status, {"content-type": kind}, body))


def granted(response: Response) -> tuple[str, float | None]:
    found = token_response.granted(response, SENT, now=0, provider="test")
    return found.credential.token.reveal(), found.credential.expires_at


def polled(response: Response) -> Any:
    found = device.judge(response, SENT, 5, now=0, provider="test")
    return found if isinstance(found, float | int) else found.credential.token.reveal()


def claims(response: Response) -> Any:
    found = introspection.read(response)
    return found and {name: value for name, value in found.items() if name != "error"}


def of_agent(status: int, kind: str, body: bytes) -> Any:
    with _agent() as agent:
        agent.answers["/token"] = (status, body)
        return AgentProvider(agent.path).fetch(Wanted()).token.reveal()  # type: ignore[union-attr] # it is there


def of_hub(status: int, kind: str, body: bytes) -> Any:
    with scripted_hub.running() as hub:
        hub.answers["GET /grants/g"] = (status, {"content-type": kind}, body)
        return HubClient(hub.url, lambda: Secret(scripted_hub.TOKEN)).get("g").expires_at


@contextmanager
def _agent() -> Iterator[scripted_agent.ScriptedAgent]:
    with (
        tempfile.TemporaryDirectory(prefix="aa-") as directory,
        scripted_agent.answering(Path(directory, "agent.sock"), lambda: "abc") as agent,
    ):
        yield agent


ENDPOINTS = {
    "token": Endpoint(TOKEN, of(granted)),
    "device": Endpoint(CODE, of(lambda r: device.read(r, SENT, now=0))),
    "device poll": Endpoint(TOKEN, of(polled)),
    "discovery": Endpoint({"issuer": URL, "token_endpoint": URL}, of(lambda r: discovery.read(URL, r))),
    "userinfo": Endpoint({"sub": "alice"}, of(userinfo.read)),
    "introspection": Endpoint({"active": True, "sub": "alice", "exp": 3600}, of(claims)),
    "jwks": Endpoint(
        {"keys": [RSAKey.generate_key(2048, private=False).as_dict()]},
        of(lambda r: [k.as_dict() for k in jwks.read(r)]),
    ),
    "revocation": Endpoint({}, of(revocation.check)),
    "agent": Endpoint(TOKEN, of_agent),
    "hub": Endpoint(GRANT, of_hub),
}

WAYS: dict[str, Callable[[bytes], tuple[int, str, bytes]]] = {
    "a byte order mark": lambda body: (200, "application/json", b"\xef\xbb\xbf" + body),
    "201": lambda body: (201, "application/json", body),
    "202": lambda body: (202, "application/json", body),
    "a charset": lambda body: (200, 'application/json; charset="UTF-8"', body),
    "no content type": lambda body: (200, "", body),
    "text": lambda body: (200, "text/plain;charset=us-ascii", body),
    "UTF-16": lambda body: (200, "application/json;charset=utf-16", body.decode().encode("utf-16")),
    "blanks around it": lambda body: (200, "application/json", b"\r\n " + body + b"\n"),
    "error: null": lambda body: (200, "application/json", json.dumps(json.loads(body) | {"error": None}).encode()),
    "error: empty": lambda body: (200, "application/json", json.dumps(json.loads(body) | {"error": ""}).encode()),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", ENDPOINTS)
def test_every_answer_is_read_whatever_way_it_is_written_in(name: str, way: str) -> None:
    endpoint = ENDPOINTS[name]
    body = json.dumps(endpoint.good).encode()
    assert endpoint.read(*WAYS[way](body)) == endpoint.read(200, "application/json", body)


NUMBERS = {
    "token": ("expires_in", "refresh_expires_in"),
    "device": ("expires_in", "interval"),
    "hub": ("created_at", "expires_at", "children", "interval"),
}


@pytest.mark.parametrize("text", ["3600", "3600.0", " 3600 ", 3600.0])
@pytest.mark.parametrize(("name", "field"), [(name, field) for name, fields in NUMBERS.items() for field in fields])
def test_numbers_may_be_text(name: str, field: str, text: object) -> None:
    endpoint = ENDPOINTS[name]
    as_number, as_text = (
        endpoint.read(200, "application/json", json.dumps(endpoint.good | {field: value}).encode())
        for value in (3600, text)
    )
    assert as_text == as_number


@pytest.mark.parametrize("value", ["", "soon", "-1", "1e9", "0x10", "٣", "1" * 40, True, [], {}, -1, 1e99])
@pytest.mark.parametrize(("name", "field"), [("token", "expires_in"), ("device", "interval"), ("hub", "expires_at")])
def test_what_is_no_number_is_an_error(name: str, field: str, value: object) -> None:
    endpoint = ENDPOINTS[name]
    with pytest.raises(ProviderError, match=field):
        endpoint.read(200, "application/json", json.dumps(endpoint.good | {field: value}).encode())


@pytest.mark.parametrize(
    ("name", "status"),
    [
        (name, status)
        for name in sorted(ENDPOINTS.keys() - {"device poll"})
        for status in (200, 201, 400, 401, 403)
        if name != "discovery" or status <= 201  # its document is asked for at other addresses then
    ],
)
def test_an_error_is_one_whatever_its_status_and_shows_nothing(name: str, status: int) -> None:
    body = json.dumps({"error": "invalid_grant", "error_description": "pl4nted-secret"}).encode()
    with pytest.raises(AuthAgentError) as caught:
        ENDPOINTS[name].read(status, "application/json", body)
    assert "pl4nted" not in str(caught.value)


@pytest.mark.parametrize("status", [200, 400, 401, 403, 428])
def test_a_poll_waits_whatever_the_status(status: int) -> None:
    read = ENDPOINTS["device poll"].read
    assert read(status, "", b'{"error":"authorization_pending"}') == 5
    assert read(status, "", b'{"error":"slow_down","interval":"10"}') == 10
    for code in ("access_denied", "expired_token", "authorization_declined"):
        with pytest.raises(Denied):
            read(status, "", json.dumps({"error": code}).encode())


@pytest.mark.parametrize("kind", ["bearer", "BEARER", "Bearer", " Bearer", "bearer\n", "BearerToken", "", None, ...])
@pytest.mark.parametrize("name", ["token", "device poll", "agent"])
def test_spellings_of_bearer(name: str, kind: object) -> None:
    answer = {key: value for key, value in (TOKEN | {"token_type": kind}).items() if value is not ...}
    assert ENDPOINTS[name].read(200, "", json.dumps(answer).encode())


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("DPoP", "another type than Bearer: token_type is DPoP"),
        ("dpop ", "another type than Bearer: token_type is DPoP"),
        ("mac", "another type than Bearer: token_type is MAC"),
        ("N_A", "another type than Bearer: token_type is N_A"),
        ("pl4nted-secret", "token_type is one that is not known here"),
        (["Bearer"], "token_type is one that is not known here"),
        (7, "token_type is one that is not known here"),
    ],
)
@pytest.mark.parametrize("name", ["token", "device poll", "agent"])
def test_other_types_are_refused_by_name(name: str, kind: object, says: str) -> None:
    with pytest.raises(ProviderError, match=says) as caught:
        ENDPOINTS[name].read(200, "", json.dumps(TOKEN | {"token_type": kind}).encode())
    assert "pl4nted" not in str(caught.value)
