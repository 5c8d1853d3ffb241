"""The OAuth provider's HTTP endpoints, and the documents that say where they are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from authlib.oauth2 import OAuth2Error

from flytekitplugins.authagent.sandbox.authorization_server import AuthorizationServer
from flytekitplugins.authagent.sandbox.browser import Browsers
from flytekitplugins.authagent.sandbox.counts import Counts
from flytekitplugins.authagent.sandbox.dialect import Dialect
from flytekitplugins.authagent.sandbox.endpoints.authorization import Authorization
from flytekitplugins.authagent.sandbox.endpoints.device import PAGE_PATH, DeviceAuthorization, DevicePage
from flytekitplugins.authagent.sandbox.endpoints.introspection import Introspection
from flytekitplugins.authagent.sandbox.endpoints.revocation import Revocation
from flytekitplugins.authagent.sandbox.endpoints.userinfo import UserInfo
from flytekitplugins.authagent.sandbox.exchange import Answer, Call, json_answer
from flytekitplugins.authagent.sandbox.faults import Faults
from flytekitplugins.authagent.sandbox.issuer import Issuer
from flytekitplugins.authagent.sandbox.loopback import LoopbackServer
from flytekitplugins.authagent.sandbox.token_request import read

HANG_SECONDS = 60.0
"""How long a token request hangs under `token_hang`, unless the client goes away before."""

NO_BODY = (204, 205, 304)

LONGEST_DELAY = 60.0
"""Seconds, whatever `token_delay_ms` says."""

ANONYMOUS = "anonymous"
"""Whose requests those are that name no client of ours."""

DOCUMENTS = ("openid-configuration", "oauth-authorization-server")

_Route = tuple[tuple[str, ...], Callable[[Call], "Answer | None"]]

PAGE = b"<!doctype html><html><title>Sign in</title><body>Please sign in to continue.</body></html>"
"""What a proxy or a login page says where JSON was expected."""


class Provider:
    """
    An OAuth 2.0 provider on loopback. `issuer` is what it issues with, and what the control plane verifies with.

    `settings` are those of `Issuer`.
    """

    def __init__(self, dialect: Dialect, counts: Counts, faults: Faults, **settings: Any) -> None:
        self._server = LoopbackServer("provider", self._answer)
        self.issuer = Issuer(self._server.url, dialect, **settings)
        self._counts, self._faults = counts, faults
        self._authorization_server = AuthorizationServer(self.issuer, counts, faults)
        self._routes = self._all_routes()

    def start(self) -> None:
        """Begin to answer."""
        self._server.start()

    def stop(self) -> None:
        """Answer nobody any more."""
        self._server.stop()

    def _answer(self, call: Call) -> Answer | None:
        if call.path not in self._routes:
            return json_answer(404, {"error": "not_found"})
        methods, answer = self._routes[call.path]
        if call.method not in methods:
            allowed = ", ".join(methods)
            refusal = {"error": "invalid_request", "error_description": f"use {allowed}"}
            return json_answer(405, refusal, ("Allow", allowed))
        return answer(call)

    def _all_routes(self) -> dict[str, _Route]:
        """Path -> the methods that it takes, and who answers."""
        server, dialect, browsers = self._authorization_server, self.issuer.dialect, Browsers()
        routes: dict[str, _Route] = {
            dialect.token_path: (("POST",), self._token),
            dialect.authorization_path: (Authorization.METHODS, Authorization(server, browsers)),
            dialect.jwks_path: (("GET",), self._document("jwks", lambda: self.issuer.keys().as_dict(private=False))),
            **{f"/.well-known/{name}": (("GET",), self._document(name, self.issuer.metadata)) for name in DOCUMENTS},
        }
        if dialect.endpoints:
            for endpoint in (Revocation, Introspection):
                path = dialect.endpoints[f"{endpoint.ENDPOINT_NAME}_endpoint"]
                server.register_endpoint(endpoint)
                routes[path] = (("POST",), self._endpoint(endpoint.ENDPOINT_NAME, path))
            routes |= {
                dialect.endpoints["device_authorization_endpoint"]: (("POST",), DeviceAuthorization(server)),
                dialect.endpoints["userinfo_endpoint"]: (UserInfo.METHODS, UserInfo(server)),
                PAGE_PATH: (DevicePage.METHODS, DevicePage(server, browsers)),
            }
        return routes

    def _document(self, name: str, content: Callable[[], Any]) -> Callable[[Call], Answer]:
        def answer(call: Call) -> Answer:
            self._counts.discover(name)
            return json_answer(200, content())

        return answer

    def _endpoint(self, name: str, path: str) -> Callable[[Call], Answer]:
        """An endpoint that authlib walks through, such as revocation."""
        server: Any = self._authorization_server  # authlib has no types

        def answer(call: Call) -> Answer:
            try:
                request = read(call, self.issuer.issuer + path, needs=None)
            except OAuth2Error as refusal:
                given: Answer = server.handle_error_response(None, refusal)
            else:
                given = server.create_endpoint_response(name, request)
            if given.status != 200:
                self._counts.note("refused_requests", ANONYMOUS)
            return given

        return answer

    def _token(self, call: Call) -> Answer | None:
        server: Any = self._authorization_server  # authlib has no types
        try:
            request = read(call, self.issuer.token_endpoint)
        except OAuth2Error as refusal:
            self._counts.refuse_mint(ANONYMOUS)
            return server.handle_error_response(None, refusal)  # type: ignore[no-any-return] # as above
        client = request.claimed_client if request.claimed_client in self.issuer.clients else ANONYMOUS
        spared = self.issuer.refresh_tokens.spares(request.form.get("refresh_token", ""))
        if not spared:
            call.left(min((self._faults.take("token_delay_ms") or 0) / 1000, LONGEST_DELAY))
            if self._faults.take("token_hang"):
                self._counts.refuse_mint(client)
                call.left(HANG_SECONDS)
                return None
        spoiled = None if spared else self._spoiled()
        answer: Answer = spoiled or server.create_token_response(request)
        if spoiled or answer.status != 200:
            self._counts.refuse_mint(client)
        return answer

    def _spoiled(self) -> Answer | None:
        """What the faults put in the place of an answer."""
        status = self._faults.take("token_status")
        if status is not None:
            status = status if 200 <= status < 600 and status not in NO_BODY else 503
            for_now = status == 429 or status >= 500
            return json_answer(status, {"error": "temporarily_unavailable" if for_now else "access_denied"})
        if self._faults.take("token_html"):
            return Answer(200, PAGE, (("Content-Type", "text/html; charset=utf-8"),))
        return None
