"""Logging a person in: with the browser of this machine, or with one elsewhere."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import TimeoutError as FutureTimeoutError
from urllib.parse import parse_qsl, urlsplit

from flytekitplugins.authagent.callback import Callback
from flytekitplugins.authagent.errors import AuthAgentError, Denied, ProviderUnavailable
from flytekitplugins.authagent.http import check_url
from flytekitplugins.authagent.oauth import authorization_code, device, token_response
from flytekitplugins.authagent.oauth.target import Target
from flytekitplugins.authagent.oauth.token_response import Granted
from flytekitplugins.authagent.providers.oauth_client import OAuthClient
from flytekitplugins.authagent.terminal import Terminal, qr_code

REDIRECT = "http://127.0.0.1/callback"
"""Where a login comes back to, on any free port, unless somebody says otherwise (RFC 8252 section 7.3)."""


def by_browser(
    client: OAuthClient,
    target: Target,
    terminal: Terminal,
    *,
    redirect_uri: str | None = None,
    patience: float = 300.0,
    open_browser: bool = True,
) -> Granted:
    """
    A login by the authorization code grant with PKCE, within `patience` seconds.

    Without `open_browser` the address is only shown; whoever opens it on another machine pastes the address that
    their browser ends at. Raises `Denied` where the person or the server declines, `ProviderUnavailable` where
    nobody answers in time, `ProviderError` and `ConfigError` for what cannot work.
    """
    metadata = client.metadata
    endpoint, client_id = metadata.need("authorization_endpoint"), client.client_id or ""
    check_url(endpoint)  # a browser opens what it is given
    with Callback(redirect_uri or client.from_flyte.redirect_uri or REDIRECT) as callback:
        started = authorization_code.start(
            endpoint,
            client_id,
            callback.redirect_uri,
            target,
            issuer=metadata.issuer,
            issuer_must_answer=metadata.authorization_response_iss_parameter_supported,
        )
        callback.is_answer = lambda query: authorization_code.is_answer(query, started)
        opened = open_browser and terminal.open(started.url)
        if opened:
            terminal.say(f"Log in in the browser that has just opened. If none has, open\n\n  {started.url}\n")
        else:
            terminal.say(f"Open this address in a browser, and log in:\n\n  {started.url}\n")
            terminal.say("Where that browser is on another machine, paste the address that it ends at here:")
            _take_pasted(terminal, callback)
        try:
            query = callback.wait(patience)
            code = authorization_code.code(query, started)
            sent = authorization_code.request(metadata.need("token_endpoint"), client.authentication(), code, started)
            found = token_response.granted(client.send(sent), sent, now=client.clock(), provider=client.kind)
        except FutureTimeoutError:
            raise ProviderUnavailable(
                f"nobody logged in within {patience:g} s",
                hint="start again; `authagent login --device` needs no browser here",
            ) from None
        except AuthAgentError as failed:
            callback.tell(str(failed.args[0]))
            raise
        callback.tell(None)
        return found


def by_device(
    client: OAuthClient,
    target: Target,
    terminal: Terminal,
    *,
    patience: float = 300.0,
    sleep: Callable[[float], None] = time.sleep,
) -> Granted:
    """
    A login by the device authorization grant (RFC 8628): the person confirms a code in a browser anywhere.

    Raises as `by_browser`.
    """
    endpoint = client.metadata.need("device_authorization_endpoint")
    asked = device.request(endpoint, client.authentication(), target)
    code = device.read(client.send(asked), asked, now=client.clock())
    _show(code, terminal)
    deadline = min(client.clock() + patience, code.expires_at)
    interval = code.interval
    while client.clock() + interval < deadline:
        sleep(interval)
        sent = device.poll(client.metadata.need("token_endpoint"), client.authentication(), code)
        try:
            outcome = device.judge(client.send(sent), sent, interval, now=client.clock(), provider=client.kind)
        except ProviderUnavailable:  # no answer at all: the same as one that says so
            outcome = min(interval * 2, device.LONGEST_INTERVAL)
        if isinstance(outcome, Granted):
            return outcome
        interval = outcome
    raise Denied(
        "nobody confirmed the code in time",
        hint="start again for a new code; `authagent login --timeout SECONDS` waits longer",
    )


def _show(code: device.DeviceCode, terminal: Terminal) -> None:
    if code.verification_uri_complete:
        terminal.say(qr_code(code.verification_uri_complete))
    terminal.say(f"Open {code.verification_uri} in any browser, and enter the code\n\n  {code.user_code}\n")
    if code.verification_uri_complete:
        terminal.say(f"or open {code.verification_uri_complete} and compare the code.")


def _take_pasted(terminal: Terminal, callback: Callback) -> None:
    """Take what the person types for the answer, if it is one, for as long as the login waits."""

    def take() -> None:
        for _ in range(20):
            line = terminal.ask()
            if line is None:
                return
            try:
                if callback.offer(dict(parse_qsl(urlsplit(line.strip()).query, max_num_fields=32))):
                    return
            except ValueError:
                pass
            terminal.say("That is not the address that this login ends at.")

    threading.Thread(target=take, name="authagent-paste", daemon=True).start()
