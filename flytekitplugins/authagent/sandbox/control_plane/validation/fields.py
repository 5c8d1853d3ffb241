"""Checks that several kinds of resources share: required fields, identifiers, lengths, names and labels."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from flyteidl.core import identifier_pb2

from flytekitplugins.authagent.sandbox.refusal import invalid, missing, written

LONGEST_LABEL = 63

_LABEL = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?")
_DNS_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_DNS_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")

_TOO_LONG = f"must be no more than {LONGEST_LABEL} characters"
_NAME_PART = (
    "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric "
    "character"
)
_VALUE = (
    "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and "
    "end with an alphanumeric character"
)
_LOWERCASE = (
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end "
    "with an alphanumeric character"
)

Required = Iterable[tuple[str, str]]
"""Paths of fields, such as `spec.template.type`, each with its name in messages; they are checked in this order."""


def check_required(message: Any, required: Required) -> None:
    """Refuse `message` if one of the `required` fields is not set, or empty."""
    for path, name in required:
        at = message
        for step in path.split("."):
            field = at.DESCRIPTOR.fields_by_name[step]
            is_message = field.message_type is not None
            if not (at.HasField(step) if is_message else getattr(at, step)):
                raise missing(name)
            at = getattr(at, step)


def check_identifier(request: Any, kind: int, field: str = "id") -> None:
    """Refuse `request` if the identifier in `field` is not complete, or not of a resource of this `kind`."""
    check_required(request, [(field, "id")])
    identifier = getattr(request, field)
    if identifier.resource_type != kind:
        found, expected = (
            identifier_pb2.ResourceType.Name(number).lower() for number in (identifier.resource_type, kind)
        )
        raise invalid(
            f"unexpected resource type {found} for identifier [{written(identifier)}], expected {expected} instead"
        )
    check_names(identifier)


def check_names(identifier: Any) -> None:
    """Refuse an identifier that lacks a project, domain, name or version."""
    check_required(identifier, [(field, field) for field in ("project", "domain", "name", "version")])


def check_execution_id(request: Any, field: str = "id", called: str = "id") -> None:
    """Refuse `request` if the identifier of an execution in `field` is not there or not complete."""
    check_required(request, [(field, called)])
    check_required(getattr(request, field), [(name, name) for name in ("project", "domain", "name")])


def check_length(value: str, name: str, longest: int) -> None:
    """Refuse a `value` of more than `longest` characters."""
    if len(value) > longest:
        raise invalid(f"{name} cannot exceed {longest} characters")


def check_dns_label(value: str, what: str) -> None:
    """Refuse a `value` that Kubernetes does not take as a namespace (RFC 1123)."""
    reasons = [
        *([_TOO_LONG] if len(value) > LONGEST_LABEL else []),
        *(["must not contain dots"] if "." in value else []),
    ]
    if not reasons and not _DNS_LABEL.fullmatch(value):
        reasons = [_LOWERCASE]
    if reasons:
        raise invalid(f"invalid {what} [{value}]: {_list(reasons)}")


def check_labels(labels: Mapping[str, str]) -> None:
    """Refuse labels that Kubernetes does not take."""
    for key, value in labels.items():
        prefix, slash, name = key.rpartition("/")
        if slash and not (_DNS_SUBDOMAIN.fullmatch(prefix) and len(prefix) <= 253):
            raise invalid(f"invalid label key [{key}]: [prefix part must be a DNS subdomain]")
        if not name:
            raise invalid(f"invalid label key [{key}]: [name part must be non-empty]")
        _check_label(name, f"label key [{key}]", f"name part {_TOO_LONG}", _NAME_PART)
        _check_label(value, f"label value [{value}]", _TOO_LONG, _VALUE)


def _check_label(text: str, what: str, too_long: str, rule: str) -> None:
    if len(text) > LONGEST_LABEL:
        raise invalid(f"invalid {what}: {_list([too_long])}")
    if not _LABEL.fullmatch(text):
        raise invalid(f"invalid {what}: {_list([rule])}")


def _list(reasons: Iterable[str]) -> str:
    return f"[{' '.join(reasons)}]"
