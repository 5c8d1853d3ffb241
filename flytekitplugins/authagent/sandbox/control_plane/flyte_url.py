"""`flyte://` URLs of what went into and came out of a node: `flyte://v1/PROJECT/DOMAIN/EXECUTION/NODE[/ATTEMPT]/i|o|d[/NAME]`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import unquote

from flyteidl.admin import common_pb2
from flyteidl.core import identifier_pb2

from flytekitplugins.authagent.sandbox.executor.records import NodeRecord
from flytekitplugins.authagent.sandbox.refusal import invalid

_URL = re.compile(
    r"flyte://v1/(?P<project>[^/]+)/(?P<domain>[^/]+)/(?P<execution>[^/]+)/(?P<node>[^/]+)"
    r"(?:/(?P<attempt>\d+))?/(?P<what>[iod])(?:/(?P<name>[^/]+))?"
)


@dataclass(frozen=True)
class FlyteUrl:
    """What a URL points at: inputs (`i`), outputs (`o`) or the deck (`d`) of a node, or of one attempt."""

    node: identifier_pb2.NodeExecutionIdentifier
    what: str
    attempt: int | None = None
    name: str | None = None


def parsed(url: str) -> FlyteUrl:
    """What `url` points at; raises `Refusal`."""
    refused = "failed to validate resolve artifact request. Error:"
    if not url:
        raise invalid(f"{refused} source is required. Provided empty string")
    if not url.startswith("flyte://"):
        raise invalid(f"{refused} request does not start with the correct prefix")
    match = _URL.fullmatch(unquote(url))
    if match is None:
        raise invalid(f"failed to parse artifact url Error: failed to parse [{url}]")
    execution = identifier_pb2.WorkflowExecutionIdentifier(
        project=match["project"], domain=match["domain"], name=match["execution"]
    )
    node = identifier_pb2.NodeExecutionIdentifier(node_id=match["node"], execution_id=execution)
    attempt = int(match["attempt"]) if match["attempt"] else None
    return FlyteUrl(node, match["what"], attempt, match["name"])


def of_node(node: NodeRecord, attempt: int | None = None) -> common_pb2.FlyteURLs:
    """The URLs of a node, or of one of its attempts."""
    execution = node.message.id.execution_id
    parts = [execution.project, execution.domain, execution.name, node.id]
    base = "/".join(["flyte://v1", *parts, *([] if attempt is None else [str(attempt)])])
    deck = f"{base}/d" if node.message.closure.deck_uri else ""
    return common_pb2.FlyteURLs(inputs=f"{base}/i", outputs=f"{base}/o", deck=deck)
