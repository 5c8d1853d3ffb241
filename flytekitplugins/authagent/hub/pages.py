"""What people see of the hub: plain HTML without scripts, which no other page can frame, drive or write into."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from datetime import datetime, timezone
from html import escape

from flytekitplugins.authagent.agent.http import Answer
from flytekitplugins.authagent.hub.browsers import origin

HTML = b"text/html; charset=utf-8"

LONGEST = 256
"""Characters of a name that are shown: more would push the question, or its warning, out of sight."""

_SELECTORS = (*range(0x180B, 0x1810), *range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0))

INVISIBLE = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0") | set(map(chr, _SELECTORS))
"""Letters and marks that show nothing, although Unicode calls them printable."""


@dataclass(frozen=True)
class Question:
    """
    What a person is asked to allow. Moments are seconds since the epoch.

    `launched_by` is the principal that Flyte names; `None`: the execution is not launched yet; "": it names nobody. It
    says nothing where `flyte_is_silent`: it could not be asked. `outlives` is for how many seconds at most a token that
    was given out works after the end; `None`: nobody knows.
    """

    execution: str
    subject: str
    scopes: tuple[str, ...]
    expires_at: float
    flyte: str
    launched_by: str | None
    outlives: float | None
    flyte_is_silent: bool = False


def consent(
    question: Question, proof: str, *, sign_in_origin: str, now: float, secure: bool, set_cookie: str | None = None
) -> Answer:
    """
    The question, and a form that brings `decision` (`allow` or `deny`) and `proof` back to the URL of the page.

    `sign_in_origin` is that of the identity provider's pages. Raises `ConfigError` if it is not one.
    """
    leads_to = origin(sign_in_origin)
    provider = _host(leads_to)
    until = _until(question.expires_at, now)
    facts = (
        ("Execution", _execution(question.execution)),
        ("In Flyte at", _name(question.flyte)),
        ("Asked for by", _name(question.subject)),
        ("Launched by", _launcher(question)),
        ("It may", _powers(question.scopes)),
        ("Until", f"{until},<br>or until the execution ends, if that is sooner"),
    )
    rows = "".join(f"<div><dt>{term}</dt><dd>{meaning}</dd></div>" for term, meaning in facts)
    body = f"""<p class="lead">Its tasks would act in Flyte in your name.</p>
<dl>{rows}</dl>
<p class="warning"><strong>Allow this only if you started it yourself, just now.</strong>
If somebody else sent you this link, what they started would act in your name.</p>
<form method="post" autocomplete="off"><input type="hidden" name="proof" value="{escape(proof)}">
<button class="allow" name="decision" value="allow">Allow</button>
<button name="decision" value="deny">Don\N{RIGHT SINGLE QUOTATION MARK}t allow</button></form>
<p class="quiet">If you allow it, you sign in at {provider} next, as {_name(question.subject)}.
Nothing is allowed before that.</p>
<section><h2>How it ends</h2>
<p>When the execution ends, and at the time above at the latest, this hub gives out no more tokens in your name,
and has {provider} revoke what it keeps for that. {_outlives(question.outlives)}</p>
<p>To take it back earlier, run:</p>
{_revoke(question.execution)}</section>"""
    return _page(
        200,
        "Let this execution act for you?",
        body,
        secure=secure,
        leads_to=leads_to,
        headers=b"" if set_cookie is None else b"Set-Cookie: %s\r\n" % set_cookie.encode(),
    )


def onward(url: str, *, secure: bool) -> Answer:
    """
    Sends the browser on to sign in at `url`, from a page of ours. Raises `ConfigError` for what is not http or https.

    A redirect would be the form's own, and Chromium holds all redirects after a form to `form-action`: a provider that
    sends people on to yet another origin to sign in, as one that federates does, would leave them on a dead page.
    """
    body = f"""<p>You are being taken to {_host(origin(url))}.</p>
<p><a class="button allow" href="{escape(url)}">Go there now</a></p>"""
    refresh = f'<meta http-equiv="refresh" content="0; url={escape(url)}">'
    return _page(200, "Sign in", body, secure=secure, head=refresh)


def done(execution: str, *, expires_at: float, now: float, secure: bool) -> Answer:
    """The person has allowed it, and signed in."""
    body = f"""<p>The execution {_execution(execution)} may act for you until {_until(expires_at, now)},
or until it ends, if that is sooner.</p>
<p>You can close this window.</p>
<section><h2>To take it back earlier</h2>{_revoke(execution)}</section>"""
    return _page(200, "Allowed", body, secure=secure, mark="good")


def declined(execution: str, *, secure: bool) -> Answer:
    """The person has said no, here or at the identity provider."""
    body = f"""<p>The execution {_execution(execution)} may not act for you. Nothing was given to it.</p>
<p>You can close this window.</p>"""
    return _page(200, "Not allowed", body, secure=secure, mark="no")


def problem(status: int, title: str, words: str, *names: str, secure: bool) -> Answer:
    """Something else than was hoped for. Each `{}` in `words` is one of `names`, set apart from the text around it."""
    first, *rest = words.split("{}")
    gaps = [*map(_name, names), *[""] * len(rest)]
    text = _visible(first) + "".join(gap + _visible(piece) for gap, piece in zip(gaps, rest, strict=False))
    return _page(status, title, f"<p>{text}</p>", secure=secure, mark="bad")


def _visible(text: str) -> str:
    """`text` as HTML, where no character hides, or turns around what stands beside it."""
    hidden = "\N{REPLACEMENT CHARACTER}"
    return escape("".join(c if c.isprintable() and c not in INVISIBLE else hidden for c in text))


def _name(text: str, *, code: bool = False) -> str:
    """A name from elsewhere, which must not be taken for words of ours: right to left stays inside of it."""
    cut = text if len(text) <= LONGEST else text[:LONGEST] + "\N{HORIZONTAL ELLIPSIS}"
    return f'<bdi translate="no"{" class=code" if code else ""}>{_visible(cut)}</bdi>'


def _host(address: str) -> str:
    return _name(address.partition("://")[2])


def _execution(text: str) -> str:
    """PROJECT:DOMAIN:NAME, which breaks where it has to, and after a colon where it can."""
    return _name(text, code=True).replace(":", ":<wbr>")


def _launcher(question: Question) -> str:
    principal = question.launched_by
    if question.flyte_is_silent:
        return "That is not known: Flyte could not be asked"
    if principal is None:
        return "Nobody yet, so Flyte says"
    return f"{_name(principal)}, so Flyte says" if principal else "Somebody whom Flyte does not name"


def _powers(scopes: tuple[str, ...]) -> str:
    """What the scopes let an execution do. Open-source Flyte knows one, `all`; other names are the provider's."""
    named = [_name(scope, code=True) for scope in scopes if scope != "all"]
    powers = ["<strong>Do everything that you can do in Flyte</strong>"] if "all" in scopes else []
    if named:
        powers.append(f"{'Also use' if powers else 'Use'} {', '.join(named)}")
    return "<br>".join(powers) or "Do what Flyte lets everybody do who signs in"


def _until(moment: float, now: float) -> str:
    at = datetime.fromtimestamp(moment, timezone.utc)
    absolute = f'<time datetime="{at:%Y-%m-%dT%H:%M:%SZ}">{at:%A} {at.day} {at:%B %Y, %H:%M} UTC</time>'
    return f"{absolute} ({'in ' + _span(moment - now) if moment > now else 'now over'})"


def _span(seconds: float) -> str:
    """To the minute, in at most two units: `8 hours`, `1 day and 30 minutes`."""
    minutes = max(1, round(seconds / 60))
    parts = ((minutes // 1440, "day"), (minutes // 60 % 24, "hour"), (minutes % 60, "minute"))
    return " and ".join([f"{count} {unit}{'' if count == 1 else 's'}" for count, unit in parts if count][:2])


def _outlives(seconds: float | None) -> str:
    longest = "until they run out" if seconds is None else f"for up to {_span(seconds)} more"
    return f"Tokens that it gave out before then work {longest}: Flyte checks them without asking anybody."


def _revoke(execution: str) -> str:
    return f'<pre tabindex="0" translate="no"><code>authagent revoke {_visible(execution)}</code></pre>'


STYLE = """
:root { color-scheme: light dark; --back: #f3f4f7; --card: #fff; --line: #d5d8df; --text: #1b1e24; --quiet: #4d5461;
  --strong: #1a4fb4; --on-strong: #fff; --edge: #6a7180; --code: #eef0f5;
  --warn: #fff4d9; --warn-edge: #b26a00; --on-warn: #3b2900; --good: #176c3a; --bad: #b3261e; }
@media (prefers-color-scheme: dark) { :root { --back: #121417; --card: #1d2025; --line: #383d46; --text: #e9ebef;
  --quiet: #b3bac6; --strong: #8fb6ff; --on-strong: #0b1a36; --edge: #8b93a3; --code: #292d34;
  --warn: #33290f; --warn-edge: #e0a526; --on-warn: #fbe7bb; --good: #7fd6a0; --bad: #ff9d94; } }
*, ::before, ::after { box-sizing: border-box; }
body { margin: 0; padding: 1rem; min-height: 100vh; background: var(--back); color: var(--text);
  font: 1rem/1.5 system-ui, sans-serif; overflow-wrap: anywhere; -webkit-text-size-adjust: 100%; }
header, main { max-width: 38rem; margin: 0 auto; }
header { display: flex; align-items: center; gap: .5rem; padding: .25rem 0 .75rem; color: var(--quiet);
  font-weight: 600; }
header svg { width: 1.25rem; height: 1.25rem; fill: none; stroke: currentColor; stroke-width: 2; }
main { padding: 1.25rem; background: var(--card); border: 1px solid var(--line); border-radius: .75rem; }
h1 { margin: 0 0 .5rem; font-size: 1.5rem; line-height: 1.25; text-wrap: balance; }
h2 { margin: 0 0 .25rem; font-size: 1rem; color: var(--text); }
p { margin: 0 0 .75rem; }
.lead, .quiet, section { color: var(--quiet); }
.mark { display: block; width: 2.5rem; height: 2.5rem; margin: 0 0 .75rem -.25rem; fill: none; stroke: currentColor;
  stroke-width: 2; stroke-linecap: round; stroke-linejoin: round; }
.good { color: var(--good); } .bad { color: var(--bad); } .no { color: var(--quiet); }
bdi { font-weight: 600; white-space: break-spaces; color: var(--text); }
.code, code { font: 1em/1.5 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; }
.code { font-weight: 600; }
dl { margin: 0 0 1rem; border-bottom: 1px solid var(--line); }
dl div { padding: .625rem 0; border-top: 1px solid var(--line); }
dt { color: var(--quiet); } dd { margin: 0; }
.warning { margin: 0 0 1rem; padding: .75rem 1rem; border-left: .25rem solid var(--warn-edge); border-radius: .25rem;
  background: var(--warn); color: var(--on-warn); }
form { display: flex; flex-wrap: wrap; gap: .75rem; margin-bottom: .75rem; }
button, .button { flex: 1 1 9rem; min-height: 3rem; padding: .5rem 1.25rem; border: 1px solid var(--edge);
  border-radius: .5rem; background: transparent; color: var(--text); font: inherit; font-weight: 600; cursor: pointer; }
.button { display: inline-flex; align-items: center; text-decoration: none; }
.allow { background: var(--strong); border-color: var(--strong); color: var(--on-strong); }
button:hover, .button:hover { text-decoration: underline; }
:focus-visible { outline: .1875rem solid var(--strong); outline-offset: .1875rem; }
section { margin-top: 1.25rem; padding-top: 1rem; border-top: 1px solid var(--line); }
section > :last-child, main > :last-child { margin-bottom: 0; }
pre { margin: 0; padding: .625rem .75rem; border-radius: .375rem; background: var(--code); color: var(--text);
  white-space: pre-wrap; }
@media (min-width: 40rem) { body { padding: 3rem 1rem; } main { padding: 2rem; }
  dl div { display: grid; grid-template-columns: 8rem 1fr; gap: 1rem; } }
"""

MARKS = {
    "": "",
    "good": '<circle cx="12" cy="12" r="9"/><path d="M8 12.5l3 3 5.5-6.5"/>',
    "no": '<circle cx="12" cy="12" r="9"/><path d="M6 6l12 12"/>',
    "bad": '<path d="M12 3l10 18H2z"/><path d="M12 10v5M12 18v.01"/>',
}
"""What came of it, beside words that say the same."""

SHIELD = '<svg viewBox="0 0 24 24" aria-hidden="true"><path d="M12 3l8 3v6c0 5-3.5 8-8 9.5C7.5 20 4 17 4 12V6z"/></svg>'

_STYLE_HASH = base64.b64encode(hashlib.sha256(STYLE.encode()).digest())


def _page(
    status: int,
    title: str,
    body: str,
    *,
    secure: bool,
    leads_to: str = "",
    mark: str = "",
    head: str = "",
    headers: bytes = b"",
) -> Answer:
    """
    `body` and `head` are HTML whose values are escaped already, `title` is text.

    `leads_to` is the origin that answering the page's form may send the browser to, beside our own: Chromium holds
    redirects after a form to the same rule as the form.
    """
    drawn = f'<svg class="mark {mark}" viewBox="0 0 24 24" aria-hidden="true">{MARKS[mark]}</svg>' if mark else ""
    text = f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{_visible(title)} \N{EN DASH} authagent</title>
<meta name="viewport" content="width=device-width, initial-scale=1">{head}<style>{STYLE}</style></head>
<body><header>{SHIELD}authagent</header>
<main>{drawn}<h1>{_visible(title)}</h1>
{body}</main></body></html>
"""
    return Answer(status, text.encode(), HTML, _headers(secure, leads_to) + headers)


def _headers(secure: bool, leads_to: str) -> bytes:
    forms = " ".join(filter(None, ("'self'", leads_to))).encode()
    lines = [
        b"Content-Security-Policy: default-src 'none'; style-src 'sha256-%s'; base-uri 'none'; frame-ancestors 'none'; "
        b"form-action %s" % (_STYLE_HASH, forms),
        b"X-Frame-Options: DENY",
        b"X-Content-Type-Options: nosniff",
        b"Referrer-Policy: same-origin",  # no-referrer would make the Origin of our own form null, which we refuse
        b"Cross-Origin-Opener-Policy: same-origin",
        b"Cross-Origin-Resource-Policy: same-origin",
        b"Permissions-Policy: camera=(), display-capture=(), geolocation=(), microphone=(), payment=(), usb=()",
    ]
    if secure:
        lines.append(b"Strict-Transport-Security: max-age=31536000")
    return b"".join(line + b"\r\n" for line in lines)
