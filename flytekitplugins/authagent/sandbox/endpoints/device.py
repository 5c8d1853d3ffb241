"""Signing in on another screen (RFC 8628): the endpoint for devices, and the page for people."""

from __future__ import annotations

from html import escape
from typing import Any

from authlib.oauth2 import OAuth2Error
from authlib.oauth2.rfc6749 import InvalidRequestError, UnauthorizedClientError

from flytekitplugins.authagent.sandbox import token_request
from flytekitplugins.authagent.sandbox.authorization_server import AuthorizationServer
from flytekitplugins.authagent.sandbox.browser import Browsers
from flytekitplugins.authagent.sandbox.client import DEVICE_CODE
from flytekitplugins.authagent.sandbox.device_codes import LIFETIME
from flytekitplugins.authagent.sandbox.endpoints import consent
from flytekitplugins.authagent.sandbox.exchange import Answer, Call, json_answer
from flytekitplugins.authagent.sandbox.grants.client_authentication import ANY
from flytekitplugins.authagent.sandbox.page import name, page

PAGE_PATH = "/device"

UNKNOWN_CODE = "No device is waiting with this code. Check what your device shows, and type it again"


class DeviceAuthorization:
    """Gives a device its codes (sections 3.1 and 3.2)."""

    METHODS = ("POST",)

    def __init__(self, server: AuthorizationServer) -> None:
        self._server: Any = server  # authlib has no types

    def __call__(self, call: Call) -> Answer:
        server, issuer = self._server, self._server.issuer
        endpoint = issuer.issuer + issuer.dialect.endpoints["device_authorization_endpoint"]
        try:
            request = token_request.read(call, endpoint, needs=None)
            client = server.authenticate_client(request, ANY, "device_authorization")
            if not client.check_grant_type(DEVICE_CODE):
                raise UnauthorizedClientError("The client may not sign people in on other screens")
            client.check_scope(request.payload.scope)
        except OAuth2Error as refusal:
            server.counts.note("refused_requests", "anonymous")
            answer: Answer = server.handle_error_response(None, refusal)
            return answer
        scope = request.payload.scope or issuer.dialect.default_scope
        code = issuer.device_codes.issue(
            client.id, scope, interval=issuer.device_interval, now=issuer.now(), audience=server.asked(request)
        )
        server.counts.note("device", client.id)
        where = issuer.issuer + PAGE_PATH
        content = {
            "device_code": code.text,
            "user_code": code.user_code,
            "verification_uri": where,
            "verification_uri_complete": f"{where}?user_code={code.user_code}",
            "expires_in": int(LIFETIME),
            "interval": code.interval,
        }
        if server.faults.take("no_interval"):
            del content["interval"]  # it is optional, and clients must then wait 5 s (section 3.2)
        return json_answer(200, content)


class DevicePage:
    """Asks for the code that a device shows, and then whether that device may act for whoever typed it."""

    METHODS = ("GET", "POST")

    def __init__(self, server: AuthorizationServer, browsers: Browsers) -> None:
        self._server, self._browsers = server, browsers

    def __call__(self, call: Call) -> Answer:
        issuer, counts = self._server.issuer, self._server.counts
        try:
            user_code = token_request.fields(call.query).get("user_code", "")
            if not user_code and call.method != "POST":
                return _enter(200, "")
            waiting = issuer.device_codes.shown(user_code, now=issuer.now())
            if waiting is None:
                raise InvalidRequestError(UNKNOWN_CODE)
            if call.method != "POST":
                shown = (
                    f'<p class="warning">Your device must show the code {name(waiting.user_code)}. '
                    "If it shows another code, choose Deny.</p>"
                )
                return consent.ask(call, self._browsers, client_id=waiting.client_id, scope=waiting.scope, detail=shown)
            decision = consent.decision(call, self._browsers)
            decided = issuer.device_codes.decide(user_code, decision.user, allowed=decision.allowed, now=issuer.now())
            if decided is None:
                raise InvalidRequestError(UNKNOWN_CODE)
        except OAuth2Error as wrong:
            counts.note("refused_requests", "anonymous")
            return _enter(400, str(wrong.description))
        counts.note("sign_ins" if decision.allowed else "denials", decided.client_id)
        said = "The device may act for you now." if decision.allowed else "The device was told no."
        mark = "good" if decision.allowed else "no"
        return page(200, "Done", f"<p>{said}</p><p>You can close this page.</p>", mark=mark)


def _enter(status: int, wrong: str) -> Answer:
    """The page that asks for the code."""
    problem = f'<p class="warning">{escape(wrong)}</p>' if wrong else ""
    body = f"""{problem}<form method="get">
<label class="field">The code that your device shows
<input name="user_code" autocomplete="off" autocapitalize="characters" spellcheck="false" autofocus required
maxlength="20"></label>
<button class="allow">Next</button></form>"""
    return page(status, "Connect a device", body)
