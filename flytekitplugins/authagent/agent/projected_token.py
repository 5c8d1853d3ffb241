"""A pod's projected service-account token, as far as it can be judged without asking anybody."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

from flytekitplugins.authagent.agent.refusal import unknown_peer
from flytekitplugins.authagent.credential import Secret, claims, moment

MAX = 16 * 1024
"""Characters. A real one has about a thousand; the API server takes and echoes a megabyte."""

_SHAPE = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")


@dataclass(frozen=True)
class ProjectedToken:
    """Nothing in it is verified. `digest` stands for it in memory; `expires_at` is seconds since the epoch."""

    secret: Secret
    digest: bytes
    expires_at: float


def read(shown: Secret, *, audience: str, max_lifetime: float, now: float) -> ProjectedToken:
    """
    What is shown, if the API server need be asked about it at all.

    Raises `Refusal` for what is no token of a pod, is for somebody else, or has ended. White space around it is taken
    away first: the API server does so too, and one token must not have several names here.
    """
    text = shown.reveal().strip()
    if len(text) > MAX or not _SHAPE.fullmatch(text):
        raise unknown_peer("what was shown is not a JWT")
    found = claims(Secret(text))
    audiences = found.get("aud")
    if audience not in (audiences if isinstance(audiences, list) else [audiences]):
        raise unknown_peer("the token that was shown is for another audience")
    bound = found.get("kubernetes.io")
    if not isinstance(bound, dict) or not isinstance(bound.get("pod"), dict):
        raise unknown_peer("the token that was shown is not bound to a pod")
    issued, ends = moment(found.get("iat")), moment(found.get("exp"))
    if ends is None or ends <= now:
        raise unknown_peer("the token that was shown has ended")
    if issued is None or ends - issued > max_lifetime:
        raise unknown_peer(f"the token that was shown lives longer than {max_lifetime:.0f} s")
    return ProjectedToken(Secret(text), hashlib.sha256(text.encode()).digest(), ends)
