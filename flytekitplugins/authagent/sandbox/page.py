"""
A page for people, in the style of the hub's: plain HTML without scripts, which no other page can frame, drive or leave
a script in.
"""

from __future__ import annotations

import base64
import hashlib
from html import escape

from flytekitplugins.authagent.hub.pages import MARKS, SHIELD
from flytekitplugins.authagent.hub.pages import STYLE as HUB_STYLE
from flytekitplugins.authagent.sandbox.exchange import Answer

STYLE = (
    HUB_STYLE
    + """
fieldset { flex: 1 0 100%; margin: 0; padding: 0; border: 0; }
legend { padding: 0 0 .5rem; color: var(--quiet); }
.choice { display: flex; align-items: center; gap: .75rem; min-height: 3rem; padding: .5rem .75rem; cursor: pointer;
  border: 1px solid var(--line); }
.choice:not(:last-child) { border-bottom: 0; }
.choice:first-of-type { border-radius: .5rem .5rem 0 0; } .choice:last-child { border-radius: 0 0 .5rem .5rem; }
input { accent-color: var(--strong); font: inherit; }
input[type=radio] { width: 1.25rem; height: 1.25rem; margin: 0; }
.field { flex: 1 0 100%; color: var(--quiet); }
.field input { display: block; width: 100%; min-height: 3rem; margin-top: .25rem; padding: .5rem .75rem;
  border: 1px solid var(--edge); border-radius: .5rem; background: transparent; color: var(--text); }
"""
)

_STYLE_HASH = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()


def page(status: int, title: str, body: str, *headers: tuple[str, str], leads_to: str = "", mark: str = "") -> Answer:
    """
    `body` is HTML whose values are escaped already, `title` is text, `mark` one of the hub's marks.

    `leads_to` is the origin that answering the page's form may send the browser to, beside our own: Chromium holds
    redirects after a form to the same rule as the form.
    """
    drawn = f'<svg class="mark {mark}" viewBox="0 0 24 24" aria-hidden="true">{MARKS[mark]}</svg>' if mark else ""
    text = f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>
<meta name="viewport" content="width=device-width, initial-scale=1"><style>{STYLE}</style></head>
<body><header>{SHIELD}authagent sandbox</header>
<main>{drawn}<h1>{escape(title)}</h1>
{body}</main></body></html>
"""
    return Answer(
        status,
        text.encode(),
        (
            ("Content-Type", "text/html; charset=utf-8"),
            ("Cache-Control", "no-store"),
            (
                "Content-Security-Policy",
                f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; base-uri 'none'; frame-ancestors 'none'; "
                + " ".join(filter(None, ("form-action 'self'", leads_to))),
            ),
            ("X-Frame-Options", "DENY"),
            ("X-Content-Type-Options", "nosniff"),
            ("Referrer-Policy", "same-origin"),  # no-referrer would take the Origin away that we check
            *headers,
        ),
    )


def name(text: str) -> str:
    """A name from elsewhere as HTML, set apart from the words around it."""
    return f'<bdi translate="no">{escape(text)}</bdi>'


def error_page(status: int, words: str) -> Answer:
    """The page for a browser that cannot be sent anywhere."""
    return page(status, "This does not work", f"<p>{escape(words)}</p>", mark="bad")
