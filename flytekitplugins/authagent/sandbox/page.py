"""A page for people: plain HTML without scripts, which no other page can frame, drive or leave a script in."""

from __future__ import annotations

from html import escape

from flytekitplugins.authagent.sandbox.exchange import Answer


def page(status: int, title: str, body: str, *headers: tuple[str, str], leads_to: str = "") -> Answer:
    """
    `body` is HTML whose values are escaped already, `title` is text.

    `leads_to` is the origin that answering the page's form may send the browser to, beside our own: Chromium holds
    redirects after a form to the same rule as the form.
    """
    text = (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title></head>'
        f"<body><h1>{escape(title)}</h1>{body}</body></html>"
    )
    return Answer(
        status,
        text.encode(),
        (
            ("Content-Type", "text/html; charset=utf-8"),
            ("Cache-Control", "no-store"),
            (
                "Content-Security-Policy",
                "default-src 'none'; base-uri 'none'; frame-ancestors 'none'; "
                + " ".join(filter(None, ("form-action 'self'", leads_to))),
            ),
            ("X-Frame-Options", "DENY"),
            ("X-Content-Type-Options", "nosniff"),
            ("Referrer-Policy", "same-origin"),  # no-referrer would take the Origin away that we check
            *headers,
        ),
    )


def error_page(status: int, words: str) -> Answer:
    """What somebody sees whose browser can be sent nowhere."""
    return page(status, "This does not work", f"<p>{escape(words)}</p>")
