"""The one question that people are asked: who are you, and may this client act for you?"""

from __future__ import annotations

from dataclasses import dataclass

from authlib.oauth2.rfc6749 import InvalidRequestError

from flytekitplugins.authagent.sandbox import token_request
from flytekitplugins.authagent.sandbox.browser import Browsers
from flytekitplugins.authagent.sandbox.exchange import Answer, Call
from flytekitplugins.authagent.sandbox.page import name, page
from flytekitplugins.authagent.sandbox.users import USERS


@dataclass(frozen=True)
class Decision:
    """What somebody answered."""

    user: str
    allowed: bool


def ask(call: Call, browsers: Browsers, *, client_id: str, scope: str, detail: str = "", leads_to: str = "") -> Answer:
    """The page with the question. Its form comes back to the very URL of `call`."""
    proof, headers = browsers.invite(call)
    users = "".join(
        f'<label class="choice"><input type="radio" name="user" value="{user}"{" checked" * (user == USERS[0])}>'
        f"{user}</label>"
        for user in USERS
    )
    scopes = f"<dl><div><dt>Scopes</dt><dd>{name(scope)}</dd></div></dl>" if scope else ""
    body = f"""<p class="lead">{name(client_id)} asks to act for you.</p>
{scopes}{detail}
<form method="post" autocomplete="off"><input type="hidden" name="proof" value="{proof}">
<fieldset><legend>Who are you? The sandbox asks for no password.</legend>{users}</fieldset>
<button class="allow" name="decision" value="allow">Allow</button>
<button name="decision" value="deny">Deny</button></form>"""
    return page(200, "Sign in", body, *headers, leads_to=leads_to)


def decision(call: Call, browsers: Browsers) -> Decision:
    """What the form in `call` says. Raises `InvalidRequestError` for one that is not ours or does not say it."""
    form = token_request.body(call)
    if not browsers.invited(call, form.get("proof", "")):
        raise InvalidRequestError("This form was not made for this browser. Go back and load the page again")
    user, answer = form.get("user"), form.get("decision")
    if user not in USERS or answer not in ("allow", "deny"):
        raise InvalidRequestError("The form does not say who decided what")
    return Decision(user, answer == "allow")
