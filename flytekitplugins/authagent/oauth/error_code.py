"""Error codes: the only text of a refusal that is shown, for the rest may repeat a secret (docs/decisions/0022)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

REGISTERED = frozenset(
    {
        # RFC 6749 sections 4.1.2.1 and 5.2
        "access_denied",
        "invalid_client",
        "invalid_grant",
        "invalid_request",
        "invalid_scope",
        "server_error",
        "temporarily_unavailable",
        "unauthorized_client",
        "unsupported_grant_type",
        "unsupported_response_type",
        # RFC 6750 section 3.1, RFC 7009 section 2.2.1, RFC 7591 section 3.2.2
        "insufficient_scope",
        "invalid_client_metadata",
        "invalid_redirect_uri",
        "invalid_software_statement",
        "invalid_token",
        "unapproved_software_statement",
        "unsupported_token_type",
        # RFC 8628 section 3.5, RFC 8693 and RFC 8707 section 2, RFC 9101, RFC 9396, RFC 9449, RFC 9470
        "authorization_pending",
        "expired_token",
        "insufficient_user_authentication",
        "invalid_authorization_details",
        "invalid_dpop_proof",
        "invalid_request_object",
        "invalid_request_uri",
        "invalid_target",
        "slow_down",
        "use_dpop_nonce",
        # OpenID Connect Core section 3.1.2.6 and its extensions
        "account_selection_required",
        "consent_required",
        "interaction_required",
        "login_required",
        "registration_not_supported",
        "request_not_supported",
        "request_uri_not_supported",
        "unmet_authentication_requirements",
        # Auth0, Entra ID, GitHub, Google
        "admin_policy_enforced",
        "authorization_declined",
        "bad_verification_code",
        "deleted_client",
        "device_flow_disabled",
        "incorrect_client_credentials",
        "incorrect_device_code",
        "invalid_resource",
        "mfa_required",
        "org_internal",
        "too_many_attempts",
        "too_many_requests",
        # the hub's own
        "conflict",
        "not_found",
    }
)
"""Codes of the IANA registry "OAuth Extensions Error" and of OpenID Connect, and those of well-known servers."""

MICROSOFT = {
    "50034": "the account is not known in that tenant",
    "50079": "the account must enrol for multifactor authentication",
    "50076": "multifactor authentication is needed",
    "50105": "nobody has assigned this client or person to the application",
    "53003": "a Conditional Access policy blocks it",
    "65001": "nobody has consented to the application",
    "70011": "a scope is not valid",
    "70021": "no federated credential of the application matches the assertion",
    "500011": "the resource is not known in that tenant",
    "700016": "the application is not known in that tenant",
    "700024": "the assertion is outside of its lifetime",
    "7000112": "the application is disabled",
    "7000215": "the client secret is wrong; its value is needed, and not its id",
    "7000222": "the client secret has expired",
}
"""What Entra ID's `AADSTS` numbers mean, in our words. Numbers that are not listed are not shown."""

_AADSTS = re.compile(r"AADSTS(\d{5,7})\b")


def found(answer: Mapping[str, Any]) -> str | None:
    """The code in `answer`, if it is a registered one."""
    code = answer.get("error", answer.get("errorCode"))  # Okta's, where it takes a refusal for no OAuth matter
    return code if isinstance(code, str) and code in REGISTERED else None


def shown(answer: Mapping[str, Any]) -> str:
    """The same in words, also where there is none that can be shown."""
    code = found(answer)
    if code is not None:
        return code
    return "an unregistered error code" if answer.get("error", answer.get("errorCode")) else "no error code"


def explained(answer: Mapping[str, Any]) -> str:
    """What a number of Entra ID in `answer` means; empty where there is none that is known."""
    said = answer.get("error_description")
    number = _AADSTS.search(said) if isinstance(said, str) else None
    meaning = MICROSOFT.get(number[1]) if number else None
    return f" (AADSTS{number[1]}: {meaning})" if number and meaning else ""
