"""The tokens of the sandbox's pods, as a kubelet projects them, and what a TokenReview says of one."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Sequence
from typing import Any

from joserfc import jwt
from joserfc.jwk import KeySet, RSAKey

from flytekitplugins.authagent.credential import Secret
from flytekitplugins.authagent.sandbox import assertion
from flytekitplugins.authagent.sandbox.assertion import BadAssertion
from flytekitplugins.authagent.sandbox.pod import NODE, SERVICE_ACCOUNT, Pod

AUDIENCE = "authagent"
"""What the tokens are for."""

API_SERVER = "https://kubernetes.default.svc"
"""Who signs them, and the audience of a review that names none."""

LIFETIME = 3600
"""Seconds that one is good for."""

_EXTRA = "authentication.kubernetes.io/"
_ANONYMOUS = {"username": "system:anonymous", "groups": ["system:unauthenticated"]}


class PodTokens:
    """
    Signs tokens for pods, and reviews what is shown. Safe to use from any thread.

    `find` gives the pod of a namespace and a name that is there now; `now` gives seconds since the epoch.
    """

    def __init__(self, find: Callable[[str, str], Pod | None], now: Callable[[], float] = time.time) -> None:
        self._find, self._now = find, now
        self._key = RSAKey.generate_key(2048, {"use": "sig", "alg": "RS256"}, auto_kid=True)
        self._public = KeySet([RSAKey.import_key(self._key.as_dict(private=False))])
        self._cluster = uuid.uuid4()

    def keys(self) -> KeySet:
        """The public keys that they verify with, as a cluster publishes them (OpenID Connect Discovery)."""
        return self._public

    def sign(self, pod: Pod, *, audience: str = AUDIENCE) -> Secret:
        """A token that is bound to `pod`: good for `LIFETIME`, and no longer than the pod is there."""
        now = int(self._now())
        claims = {
            "aud": [audience],
            "exp": now + LIFETIME,
            "iat": now,
            "nbf": now,
            "iss": API_SERVER,
            "jti": str(uuid.uuid4()),
            "sub": f"system:serviceaccount:{pod.namespace}:{SERVICE_ACCOUNT}",
            "kubernetes.io": {
                "namespace": pod.namespace,
                "serviceaccount": {"name": SERVICE_ACCOUNT, "uid": self._uid(pod.namespace)},
                "pod": {"name": pod.name, "uid": pod.uid},
                "node": {"name": NODE, "uid": self._uid(NODE)},
            },
        }
        return Secret(jwt.encode({"alg": "RS256", "kid": self._key.kid}, claims, self._key))

    def review(self, token: str, audiences: Sequence[str]) -> dict[str, Any]:
        """
        The `status` of a review of `token` for one of `audiences`.

        A real API server takes white space around a token away, and takes one that begins with a space for none at
        all: its bearer is then anonymous, which counts as authenticated. It allows a minute of leeway, and remembers
        what was good for 10 s; here a token ends when it ends, and with its pod.
        """
        wanted = tuple(audiences) or (API_SERVER,)
        if token.startswith(" "):
            return {"authenticated": True, "audiences": list(wanted), "user": _ANONYMOUS}
        try:
            claims = assertion.verified(token.strip(), self._public, algorithms=("RS256",), now=self._now())
            assertion.check_audience(claims, wanted)
            self._check_pod(claims["kubernetes.io"])
        except BadAssertion as wrong:
            return {"user": {}, "error": f"[invalid bearer token, {wrong}]"}
        shared = [one for one in wanted if one in claims["aud"]]
        return {"authenticated": True, "audiences": shared, "user": self._user(claims)}

    def _check_pod(self, bound: dict[str, Any]) -> None:
        """Raises `BadAssertion` unless the very pod that the token is bound to is there."""
        pod = self._find(bound["namespace"], bound["pod"]["name"])
        if pod is None:
            raise BadAssertion("service account token has been invalidated")
        if pod.uid != bound["pod"]["uid"]:
            raise BadAssertion("pod UID does not match service account pod ref claim")

    def _user(self, claims: dict[str, Any]) -> dict[str, Any]:
        """Who that is, with what the token is bound to in lists, as a real one has it."""
        bound = claims["kubernetes.io"]
        namespace = bound["namespace"]
        extra = {
            "credential-id": f"JTI={claims['jti']}",
            "node-name": bound["node"]["name"],
            "node-uid": bound["node"]["uid"],
            "pod-name": bound["pod"]["name"],
            "pod-uid": bound["pod"]["uid"],
        }
        return {
            "username": claims["sub"],
            "uid": bound["serviceaccount"]["uid"],
            "groups": ["system:serviceaccounts", f"system:serviceaccounts:{namespace}", "system:authenticated"],
            "extra": {_EXTRA + name: [value] for name, value in extra.items()},
        }

    def _uid(self, of: str) -> str:
        """Always the same for what is called `of`, as long as the cluster is there."""
        return str(uuid.uuid5(self._cluster, of))
