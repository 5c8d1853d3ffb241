"""Somebody else whose JWTs the sandbox's provider takes, such as the API server of a Kubernetes cluster."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from authlib.oauth2 import OAuth2Error
from joserfc.jwk import KeySet

from flytekitplugins.authagent.sandbox import assertion
from flytekitplugins.authagent.sandbox.assertion import BadAssertion


@dataclass(frozen=True)
class TrustedIssuer:
    """
    An issuer by its `iss`, and who its subjects are here.

    `keys` gives its public keys, or raises an `OSError`. `subjects` maps a `sub`, such as
    `system:serviceaccount:default:runner`, to one of our clients or users; nobody else is known.
    """

    issuer: str
    keys: Callable[[], KeySet]
    subjects: Mapping[str, str]

    def read(self, text: str, *, audiences: Iterable[str], now: float) -> tuple[str, dict[str, Any]]:
        """
        Whom its JWT `text` is about here, and its claims, where it is for one of `audiences` and good at `now`.

        Raises `BadAssertion`, or the `OAuth2Error` for "come again" while its keys cannot be had.
        """
        try:
            keys = self.keys()
        except OSError:
            raise OAuth2Error(
                "The keys of an issuer cannot be had now", error="temporarily_unavailable", status_code=503
            ) from None
        claims = assertion.verified(text, keys, now=now)
        assertion.check_audience(claims, audiences)
        subject = self.subjects.get(str(claims.get("sub")))
        if subject is None:
            raise BadAssertion("nobody knows its subject")
        return subject, claims


def issuer_of(text: str, trusted: Mapping[str, TrustedIssuer]) -> TrustedIssuer | None:
    """The trusted issuer that the JWT `text` says it is from. Raises `BadAssertion` where it is no JWT."""
    return trusted.get(str(assertion.unverified(text).get("iss")))
