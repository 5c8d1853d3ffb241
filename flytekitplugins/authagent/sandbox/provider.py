"""The OAuth provider's HTTP endpoints: token, keys, and the documents that say where they are."""

from __future__ import annotations

from typing import Any

from authlib.oauth2 import OAuth2Error

from flytekitplugins.authagent.sandbox.authorization_server import GRANTS, AuthorizationServer
from flytekitplugins.authagent.sandbox.counts import Counts
from flytekitplugins.authagent.sandbox.dialect import Dialect
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

    def start(self) -> None:
        """Begin to answer."""
        self._server.start()

    def stop(self) -> None:
        """Answer nobody any more."""
        self._server.stop()

    def _answer(self, call: Call) -> Answer | None:
        dialect = self.issuer.dialect
        if call.path == dialect.token_path:
            return self._token(call) if call.method == "POST" else _only("POST")
        documents = {f"/.well-known/{name}": name for name in DOCUMENTS} | {dialect.jwks_path: "jwks"}
        if call.path not in documents:
            return json_answer(404, {"error": "not_found"})
        if call.method != "GET":
            return _only("GET")
        self._counts.discover(documents[call.path])
        return json_answer(200, self._keys() if call.path == dialect.jwks_path else self._metadata())

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

    def _metadata(self) -> dict[str, Any]:
        """
        RFC 8414 section 2, in the place of OpenID Connect's document too.

        It names what this server does today and nothing else, so it has no `authorization_endpoint` yet.
        """
        issuer, methods = self.issuer, self.issuer.dialect.authentication_methods
        return {
            "issuer": issuer.issuer,
            "token_endpoint": issuer.token_endpoint,
            "jwks_uri": issuer.jwks_uri,
            "grant_types_supported": [grant.GRANT_TYPE for grant in GRANTS],
            "response_types_supported": [],
            "scopes_supported": ["all", "offline"],
            "token_endpoint_auth_methods_supported": [*methods, "none"],
        }

    def _keys(self) -> Any:
        return self.issuer.keys().as_dict(private=False)


def _only(method: str) -> Answer:
    return json_answer(405, {"error": "invalid_request", "error_description": f"use {method}"}, ("Allow", method))
