"""The authorization endpoint (RFC 6749 section 3.1): a page to sign in on, and a redirect with the answer."""

from __future__ import annotations

from typing import Any

from authlib.common.urls import add_params_to_uri
from authlib.oauth2 import OAuth2Error
from authlib.oauth2.rfc6749 import InvalidRequestError

from flytekitplugins.authagent.sandbox import redirection, token_request
from flytekitplugins.authagent.sandbox.authorization_server import AuthorizationServer
from flytekitplugins.authagent.sandbox.browser import Browsers
from flytekitplugins.authagent.sandbox.endpoints import consent
from flytekitplugins.authagent.sandbox.exchange import Answer, Call
from flytekitplugins.authagent.sandbox.page import error_page
from flytekitplugins.authagent.sandbox.token_request import TokenRequest

UNSUPPORTED = {"request": "request_not_supported", "request_uri": "request_uri_not_supported"}
"""Parameters that change the meaning of all others, and the errors for them (OpenID Connect Core section 3.1.2.6)."""


class Authorization:
    """`GET` shows the page, `POST` is its form."""

    METHODS = ("GET", "POST")

    def __init__(self, server: AuthorizationServer, browsers: Browsers) -> None:
        self._server: Any = server  # authlib has no types
        self._browsers = browsers

    def __call__(self, call: Call) -> Answer:
        try:
            request = TokenRequest(self._server.issuer.authorization_endpoint, token_request.fields(call.query))
            where = self._where(request)
        except OAuth2Error as untrusted:
            # Whoever made this request chose where its answer would go, so it goes nowhere (section 4.1.2.1).
            self._server.counts.note("refused_requests", "anonymous")
            return error_page(400, str(untrusted.description))
        client = request.payload.client_id
        try:
            _check(request)
            self._server.asked(request)
            grant = self._server.get_consent_grant(request)
        except OAuth2Error as refusal:
            self._server.counts.note("refused_requests", client)
            return self._redirect(where, request, error=refusal.error, error_description=refusal.description)
        if call.method != "POST":
            return consent.ask(
                call,
                self._browsers,
                client_id=client,
                scope=request.payload.scope or "",
                leads_to=redirection.origin(where),
            )
        try:
            decision = consent.decision(call, self._browsers)
        except InvalidRequestError as wrong:
            self._server.counts.note("refused_requests", client)
            return error_page(400, str(wrong.description))
        if not decision.allowed:
            self._server.counts.note("denials", client)
            return self._redirect(where, request, error="access_denied", error_description="The user said no")
        self._server.counts.note("sign_ins", client)
        request.user = decision.user
        return self._redirect(where, request, code=grant.generate_authorization_code())

    def _where(self, request: TokenRequest) -> str:
        """Where the answer goes. Raises `InvalidRequestError` for what this client did not register."""
        payload = request.payload
        client = self._server.query_client(payload.client_id or "")
        if client is None:
            raise InvalidRequestError("There is no such client")
        where = payload.redirect_uri or client.get_default_redirect_uri()
        if where is None or not client.check_redirect_uri(where):
            raise InvalidRequestError("The redirect_uri is not one of this client")
        return str(where)

    def _redirect(self, where: str, request: TokenRequest, **answer: str | None) -> Answer:
        """The answer in the query (section 4.1.2), with who gives it (RFC 9207 section 2)."""
        issuer = self._server.issuer
        answer |= {"state": request.payload.state, "iss": issuer.issuer if issuer.dialect.names_itself else None}
        location = add_params_to_uri(where, [(name, value) for name, value in answer.items() if value])
        # 303, so that a browser asks with GET and takes no form along (RFC 9700 section 4.12).
        return Answer(
            303, b"", (("Location", location), ("Cache-Control", "no-store"), ("Referrer-Policy", "no-referrer"))
        )


def _check(request: TokenRequest) -> None:
    """Raises `OAuth2Error` for what authlib would take for something else."""
    sent = request.payload.data
    for name, error in UNSUPPORTED.items():
        if name in sent:
            raise OAuth2Error(f"This server takes no {name}", error=error)
    if "response_type" not in sent:
        raise InvalidRequestError("There is no response_type")
    if sent["response_type"] != "code":
        raise OAuth2Error("The response_type must be code", error="unsupported_response_type")
    if sent.get("response_mode", "query") != "query":
        raise InvalidRequestError("The response_mode must be query")
    if "none" in sent.get("prompt", "").split():
        raise OAuth2Error("Somebody must sign in", error="login_required")
