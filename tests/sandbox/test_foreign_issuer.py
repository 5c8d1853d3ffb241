"""A control plane that takes the tokens of an identity provider which is not ours."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from flyteidl.admin import version_pb2
from flyteidl.service import auth_pb2
from foreign import EC, OTHER, RSA, signed
from joserfc.jwk import KeySet
from running_control_plane import Stubs

from flytekitplugins.authagent.sandbox.control_plane import ControlPlane
from flytekitplugins.authagent.sandbox.counts import Counts
from flytekitplugins.authagent.sandbox.exchange import Answer, Call, json_answer
from flytekitplugins.authagent.sandbox.faults import Faults
from flytekitplugins.authagent.sandbox.foreign_issuer import FRESH_SECONDS, ForeignIssuer
from flytekitplugins.authagent.sandbox.loopback import LoopbackServer
from flytekitplugins.authagent.sandbox.posture import Posture

pytestmark = pytest.mark.timeout(60)

AUDIENCE = "https://flyte.example"
OPENID, OAUTH = "/realm/.well-known/openid-configuration", "/.well-known/oauth-authorization-server/realm"


class Idp:
    """A small identity provider: what it publishes, and what was asked of it."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.published = [EC, RSA]
        self.answers: dict[str, Callable[[], Answer | None]] = {OPENID: self._document, "/jwks": self._jwks}
        self._server = LoopbackServer("idp", self._answer)
        self.url = f"{self._server.url}/realm"
        self._server.start()
        self.stop = self._server.stop

    def document(self, **changed: Any) -> dict[str, Any]:
        base = self._server.url
        return {
            "issuer": self.url,
            "authorization_endpoint": f"{base}/authorize",
            "token_endpoint": f"{base}/token",
            "jwks_uri": f"{base}/jwks",
            "device_authorization_endpoint": f"{base}/device",
            "grant_types_supported": ["client_credentials"],
            "scopes_supported": ["all", "openid"],
        } | changed

    def _document(self) -> Answer:
        return json_answer(200, self.document())

    def _jwks(self) -> Answer:
        return json_answer(200, KeySet(self.published).as_dict(private=False))

    def _answer(self, call: Call) -> Answer | None:
        self.asked.append(call.path)
        answer = self.answers.get(call.path)
        return answer() if answer else Answer(404)


@pytest.fixture
def idp():
    it = Idp()
    yield it
    it.stop()


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@contextmanager
def flyte(issuer: ForeignIssuer, directory: Path) -> Iterator[ControlPlane]:
    plane = ControlPlane(
        issuer=issuer,
        counts=Counts(),
        faults=Faults(),
        posture=Posture("external"),
        directory=directory,
        task_environment={},
    )
    plane.start()
    try:
        yield plane
    finally:
        plane.stop()


def token(idp: Idp, key: Any = EC, **claims: Any) -> str:
    """An access token of that provider."""
    now = int(time.time())
    return signed({"iss": idp.url, "sub": "carol", "aud": AUDIENCE, "scp": ["all"], "iat": now - 1} | claims, key)


def said(plane: ControlPlane, text: str) -> str:
    """`OK`, or the reason of a refusal."""
    try:
        Stubs(plane.endpoint, {"authorization": f"Bearer {text}"}).admin.GetVersion(version_pb2.GetVersionRequest())
    except grpc.RpcError as refused:
        assert refused.code() is grpc.StatusCode.UNAUTHENTICATED
        return str(refused.details())
    return "OK"


def test_the_tokens_of_another_provider_are_taken(idp, tmp_path):
    with flyte(ForeignIssuer(idp.url, audience=AUDIENCE), tmp_path) as plane:
        assert said(plane, token(idp)) == "OK"
        assert said(plane, token(idp, RSA)) == "OK"
        assert "failed to verify id token signature" in said(plane, token(idp, OTHER))
        assert "invalid audience" in said(plane, token(idp, aud="https://elsewhere.example"))
        assert "required scope" in said(plane, token(idp, scp=["openid"], client_id="x"))

    assert idp.asked[:2] == [OPENID, "/jwks"]


def test_keys_are_fetched_once_for_many_calls(idp):
    issuer = ForeignIssuer(idp.url, audience=AUDIENCE, now=Clock())
    for _ in range(50):
        assert len(issuer.keys().keys) == 2

    assert idp.asked == [OPENID, "/jwks"]


def test_a_new_key_is_found(idp):
    clock = Clock()
    issuer = ForeignIssuer(idp.url, audience=AUDIENCE, now=clock)
    assert len(issuer.keys().keys) == 2
    idp.published = [RSA]
    assert len(issuer.keys().keys) == 2
    clock.now += FRESH_SECONDS

    assert [key.kid for key in issuer.keys().keys] == ["cluster-rsa"]


def test_while_it_is_down_nobody_who_is_new_comes_in(idp, tmp_path):
    idp.stop()
    with flyte(ForeignIssuer(idp.url, audience=AUDIENCE), tmp_path) as plane:
        assert "fetching keys oidc: get keys failed" in said(plane, token(idp))
        with pytest.raises(grpc.RpcError) as caught:
            Stubs(plane.endpoint).auth.GetOAuth2Metadata(auth_pb2.OAuth2MetadataRequest())
        assert caught.value.code() is grpc.StatusCode.UNKNOWN


def test_keys_that_were_fetched_once_outlive_their_server(idp, tmp_path):
    clock = Clock()
    with flyte(ForeignIssuer(idp.url, audience=AUDIENCE, now=clock), tmp_path) as plane:
        assert said(plane, token(idp)) == "OK"
        idp.stop()
        clock.now += 3600
        assert said(plane, token(idp)) == "OK"


def test_flyte_says_what_the_provider_says(idp, tmp_path):
    with flyte(ForeignIssuer(idp.url, audience=AUDIENCE), tmp_path) as plane:
        answer = Stubs(plane.endpoint).auth.GetOAuth2Metadata(auth_pb2.OAuth2MetadataRequest())

    document = idp.document()
    assert answer.device_authorization_endpoint == document["device_authorization_endpoint"]
    assert answer.token_endpoint == document["token_endpoint"]
    assert list(answer.scopes_supported) == ["all", "openid"]
    assert list(answer.response_types_supported) == []


def test_where_there_is_no_openid_there_may_be_oauth(idp):
    idp.answers[OAUTH] = idp.answers.pop(OPENID)
    issuer = ForeignIssuer(idp.url, audience=AUDIENCE)

    assert issuer.token_endpoint.endswith("/token")
    assert issuer.authorization_endpoint.endswith("/authorize")
    assert len(issuer.keys().keys) == 2
    assert idp.asked == [OPENID, OAUTH, "/jwks"]


BAD_DOCUMENTS: dict[str, Callable[[Idp], Answer | None]] = {
    "another issuer": lambda idp: json_answer(200, idp.document(issuer="http://127.0.0.1:1/realm")),
    "no issuer": lambda idp: json_answer(200, {"jwks_uri": idp.document()["jwks_uri"]}),
    "no keys": lambda idp: json_answer(200, idp.document(jwks_uri=None)),
    "keys elsewhere in plain text": lambda idp: json_answer(200, idp.document(jwks_uri="http://idp.example/jwks")),
    "keys in a file": lambda idp: json_answer(200, idp.document(jwks_uri="file:///etc/passwd")),
    "keys that are not there": lambda idp: json_answer(200, idp.document(jwks_uri=f"{idp.url}/nothing")),
    "an error": lambda idp: Answer(503),
    "nothing": lambda idp: None,
    "HTML": lambda idp: Answer(200, b"<html>"),
    "a list": lambda idp: Answer(200, b"[]"),
    "deep": lambda idp: Answer(200, b"[" * 100_000),
    "huge": lambda idp: Answer(200, b'{"a": "' + b"a" * (2 << 20) + b'"}'),
    "elsewhere": lambda idp: Answer(302, b"", (("Location", f"{idp.url}/elsewhere"),)),
}


@pytest.mark.parametrize("case", BAD_DOCUMENTS)
def test_a_document_that_cannot_be_used_gives_no_keys(idp, case):
    idp.answers[OPENID] = lambda: BAD_DOCUMENTS[case](idp)

    with pytest.raises(OSError):
        ForeignIssuer(idp.url, audience=AUDIENCE).keys()


@pytest.mark.parametrize(
    "body", [b"", b"{}", b"[]", b"null", b'{"keys": 1}', b'{"keys": [1]}', b'{"keys": [{"kty": "x"}]}', b"\xff"]
)
def test_keys_that_cannot_be_used_are_none(idp, body):
    idp.answers["/jwks"] = lambda: Answer(200, body)

    with pytest.raises(OSError):
        ForeignIssuer(idp.url, audience=AUDIENCE).keys()


def test_a_provider_that_hangs_is_waited_for_only_so_long(idp):
    idp.answers[OPENID] = lambda: time.sleep(5)
    issuer, began = ForeignIssuer(idp.url, audience=AUDIENCE, timeout=0.3), time.monotonic()

    with pytest.raises(OSError):
        issuer.keys()
    assert time.monotonic() - began < 3


def test_nobody_waits_for_many_others_to_give_up(idp):
    idp.answers[OPENID] = lambda: time.sleep(5)
    issuer, waited = ForeignIssuer(idp.url, audience=AUDIENCE, timeout=0.3), []

    def ask() -> None:
        began = time.monotonic()
        with pytest.raises(OSError):
            issuer.keys()
        waited.append(time.monotonic() - began)

    threads = [threading.Thread(target=ask) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)

    assert len(waited) == 12
    assert max(waited) < 2.5


def test_plain_http_is_for_loopback_only():
    with pytest.raises(OSError, match="https"):
        ForeignIssuer("http://idp.example", audience=AUDIENCE).keys()


def test_many_at_once_get_one_answer(idp):
    issuer = ForeignIssuer(idp.url, audience=AUDIENCE)
    barrier, found = threading.Barrier(16), []

    def ask() -> None:
        barrier.wait(5)
        found.append(len(issuer.keys().keys))

    threads = [threading.Thread(target=ask) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)

    assert found == [2] * 16
    assert idp.asked.count(OPENID) == 1
