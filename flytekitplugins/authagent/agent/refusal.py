"""An answer that is no token: an OAuth error for the caller, and the reason for the audit file."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Refusal(Exception):
    """
    `error` and `description` go to the caller (RFC 6749 section 5.2); `reason` goes to the audit file only.

    `retry_after`: seconds after which asking again makes sense.
    """

    status: int
    error: str
    description: str
    reason: str = ""
    retry_after: int | None = None

    def __str__(self) -> str:
        return f"{self.error}: {self.description}"


def invalid_request(description: str) -> Refusal:
    """The request says something that cannot be done, or not in this way."""
    return Refusal(400, "invalid_request", description)


def unknown_peer(reason: str) -> Refusal:
    """Nobody of whom any rule speaks. The caller is told as little as everybody else."""
    return Refusal(401, "invalid_client", "this agent has no rule for you", reason)


def no_rule(reason: str) -> Refusal:
    """Somebody of whom a rule speaks, but not of this."""
    return Refusal(400, "unauthorized_client", "no rule gives this", reason)


def unavailable(description: str, reason: str, retry_after: int = 1) -> Refusal:
    """Not now; a later attempt may succeed."""
    return Refusal(503, "temporarily_unavailable", description, reason, retry_after)


def misconfigured(reason: str) -> Refusal:
    """Not before the operator has mended the configuration: asking again does not help (decision 28)."""
    return Refusal(500, "server_error", "the agent's configuration is at fault; its operator must mend it", reason)


def busy(description: str, reason: str, retry_after: int = 1) -> Refusal:
    """Not now, for this caller or whoever asks like it has too much going on."""
    return Refusal(429, "temporarily_unavailable", description, reason, retry_after)
