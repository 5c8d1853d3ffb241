"""What a login leaves behind: its credential, what gets the next one, and where."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from typing import Any

from flytekitplugins.authagent import credential as credentials
from flytekitplugins.authagent import endpoint as endpoints
from flytekitplugins.authagent.credential import Credential, Secret, moment, token
from flytekitplugins.authagent.errors import AuthAgentError, ProviderError

VERSION = 1

_OF_LOGINS = frozenset({"email", "offline", "offline_access", "openid", "profile"})
"""Scopes that are about the login itself (OpenID Connect Core sections 3.1.2.1, 5.4 and 11; `offline` is Hydra's)."""


@dataclass(frozen=True)
class SessionKey:
    """
    Whose login at which Flyte. `client_id`, `principal` and `scopes` are empty where nobody configured them.

    `endpoint` is any spelling of a Flyte, or an issuer where no Flyte is known.
    """

    endpoint: str
    client_id: str = ""
    principal: str = ""
    scopes: tuple[str, ...] = ()

    def __str__(self) -> str:
        """One line for one key, readable in the keyring's own window; the end tells equal beginnings apart."""
        exact = json.dumps([self._where, self.client_id, self.principal, sorted(set(self.scopes))])
        shown = " ".join(filter(None, (self.client_id, self.principal, *sorted(set(self.scopes)))))
        digest = hashlib.sha256(exact.encode()).hexdigest()[:12]
        return " ".join(filter(None, (self._where, shown[:80], digest)))

    @property
    def _where(self) -> str:
        try:
            found = endpoints.parse(self.endpoint)
        except AuthAgentError:
            return self.endpoint  # an issuer with a path
        return f"{found.host}:{found.port or 443}" if found.host else found.target


@dataclass(frozen=True)
class Session:
    """
    One login. What follows the first three is what renewing and ending it need, so that neither discovers anything.

    `refresh_expires_at` is in seconds since the epoch. `pyflytes`: the service under which `pyflyte` keeps this very
    login, where it was `pyflyte` that made it.
    """

    credential: Credential
    refresh_token: Secret | None = None
    refresh_expires_at: float | None = None
    issuer: str | None = None
    token_endpoint: str | None = None
    revocation_endpoint: str | None = None
    userinfo_endpoint: str | None = None
    client_id: str = ""
    audience: str | None = None
    pyflytes: str | None = None

    def can_be_renewed(self, now: float) -> bool:
        """Whether there is a refresh token that has not ended, as far as anybody knows."""
        return self.refresh_token is not None and (self.refresh_expires_at is None or now < self.refresh_expires_at)

    def serves(
        self, *, issuer: str | None, client_id: str | None, audience: str | None, scopes: tuple[str, ...]
    ) -> bool:
        """
        Whether this login is one of `client_id` at `issuer`, for `audience`, with `scopes` and no other that means
        something to Flyte: who may have fewer scopes than the person must not get all of theirs.

        `None` for an issuer or a client, and no scopes, mean any. A login that does not say its scopes has none.
        """
        if issuer is not None and (self.issuer or "").rstrip("/") != issuer.rstrip("/"):
            return False
        if client_id is not None and self.client_id != client_id:
            return False
        granted = self.credential.scopes or credentials.scopes(credentials.claims(self.credential.token))
        has_scopes = not scopes or set(scopes) == set(granted) - (_OF_LOGINS - set(scopes))
        return self.audience == audience and has_scopes

    def without_refresh_token(self) -> Session:
        """The same, which can be used to its end and not renewed."""
        return replace(self, refresh_token=None)

    def to_json(self) -> Secret:
        """All of it, as text to store."""
        known = {name: getattr(self, name) for name in _TEXTS} | {
            "version": VERSION,
            "refresh_token": self.refresh_token.reveal() if self.refresh_token else None,
            "refresh_expires_at": self.refresh_expires_at,
            "access_token": self.credential.token.reveal(),
            "id_token": self.credential.id_token.reveal() if self.credential.id_token else None,
            **{name: getattr(self.credential, name) for name in ("expires_at", "lifetime", "header", "endpoint")},
            "scopes": list(self.credential.scopes),
        }
        return Secret(json.dumps({name: value for name, value in known.items() if value is not None}))


_TEXTS = ("issuer", "token_endpoint", "revocation_endpoint", "userinfo_endpoint", "client_id", "audience", "pyflytes")


def from_json(text: str) -> Session:
    """
    The session that `to_json` wrote.

    Raises `ProviderError` for everything else, and quotes nothing of it.
    """
    try:
        found = json.loads(text)
        _check_version(found)
        credential = Credential(
            token(_text(found, "access_token") or "", of="the stored login"),
            expires_at=_moment(found, "expires_at"),
            lifetime=_moment(found, "lifetime"),
            header=_text(found, "header"),
            endpoint=_text(found, "endpoint"),
            scopes=_texts(found, "scopes"),
            id_token=Secret(id_token) if (id_token := _text(found, "id_token")) else None,
        )
        refresh_token = _text(found, "refresh_token")
        texts: dict[str, Any] = {name: _text(found, name) for name in _TEXTS}
        texts["client_id"] = texts["client_id"] or ""
        return Session(
            credential,
            Secret(refresh_token) if refresh_token else None,
            _moment(found, "refresh_expires_at"),
            **texts,
        )
    except (ValueError, RecursionError, ProviderError):
        raise ProviderError(
            "the login that is stored cannot be read", hint="run `authagent logout --forget`, then `authagent login`"
        ) from None


def _check_version(found: Any) -> None:
    if not isinstance(found, dict) or found.get("version") != VERSION:
        raise ValueError("another version")


def _text(found: dict[str, Any], name: str) -> str | None:
    value = found.get(name)
    if value is None or isinstance(value, str):
        return value or None
    raise ValueError(name)


def _texts(found: dict[str, Any], name: str) -> tuple[str, ...]:
    value = found.get(name, [])
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return tuple(value)
    raise ValueError(name)


def _moment(found: dict[str, Any], name: str) -> float | None:
    value = found.get(name)
    if value is not None and moment(value) is None:
        raise ValueError(name)
    return moment(value)
