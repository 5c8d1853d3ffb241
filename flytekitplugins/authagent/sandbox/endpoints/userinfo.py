"""The UserInfo endpoint (OpenID Connect Core section 5.3)."""

from __future__ import annotations

from flytekitplugins.authagent.sandbox.assertion import BadAssertion
from flytekitplugins.authagent.sandbox.authorization_server import AuthorizationServer
from flytekitplugins.authagent.sandbox.exchange import Answer, Call, json_answer
from flytekitplugins.authagent.sandbox.users import USERS, profile


class UserInfo:
    """Says who the user of an access token is, where its scopes say openid."""

    METHODS = ("GET", "POST")

    def __init__(self, server: AuthorizationServer) -> None:
        self._server = server

    def __call__(self, call: Call) -> Answer:
        issuer, counts = self._server.issuer, self._server.counts
        scheme, _, text = call.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            counts.note("refused_requests", "anonymous")
            return _refused(401, None)
        try:
            token, _ = issuer.read(text.strip())
        except BadAssertion:
            counts.note("refused_requests", "anonymous")
            return _refused(401, "invalid_token")
        if "openid" not in token.scopes or token.user not in USERS:
            counts.note("refused_requests", token.client_id)
            return _refused(403, "insufficient_scope")
        counts.note("userinfo", token.client_id)
        return json_answer(200, profile(token.user))


def _refused(status: int, error: str | None) -> Answer:
    """RFC 6750 section 3: who shows no token at all learns of no error."""
    challenge = 'Bearer realm="authagent sandbox"' + (f', error="{error}"' if error else "")
    return json_answer(status, {"error": error} if error else {}, ("WWW-Authenticate", challenge))
