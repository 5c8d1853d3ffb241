"""Which kind of gRPC server answers at an endpoint: a Flyte 1, a Flyte 2, or neither."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from typing import Any, Literal

Kind = Literal["flyte", "flyte 2", "other"]

FLYTE_2 = "is a Flyte 2, which has no service of Flyte 1"
FLYTE_2_HINT = "this package, like flytekit, is for Flyte 1: name the endpoint of one, or use the Flyte 2 SDK (`flyte`)"

NO_FLYTE = "speaks gRPC, and is no Flyte: it has no flyteidl.service.AdminService"
NO_FLYTE_HINT = "check the host and the port of the endpoint"

_METHODS: tuple[tuple[str, Kind], ...] = (
    ("/flyteidl2.auth.AuthMetadataService/GetPublicClientConfig", "flyte 2"),
    ("/flyteidl.service.AdminService/GetVersion", "flyte"),
    ("/flyteidl2.project.ProjectService/ListProjects", "flyte 2"),
    ("/flyteidl2.workflow.RunService/ListRuns", "flyte 2"),
)
"""A method that only one kind has; all take an empty message. Flyte 2 without authentication lacks the first."""


def of_server(channel: Any, deadline: float, metadata: Sequence[tuple[str, str]] = ()) -> Kind | None:
    """
    What serves `channel`, asked without a token before `deadline` (of `time.monotonic`); `None` where it does not say.

    A method that refuses is there, unless everything is refused: then something stands before it.
    """
    import grpc

    refused: set[Kind] = set()
    for method, kind in _METHODS:
        try:
            channel.unary_unary(method)(b"", timeout=max(deadline - time.monotonic(), 0.001), metadata=metadata)
        except grpc.RpcError as failed:
            code, status = failed.code(), http_status(failed.details() or "")
        else:
            return kind
        if code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
            return None
        if code != grpc.StatusCode.UNIMPLEMENTED and status is None:
            refused.add(kind)
    if len(refused) == 2:
        return None
    return refused.pop() if refused else "other"


def http_status(details: str) -> int | None:
    """The status with which something that speaks no gRPC has answered, as gRPC's own words have it."""
    found = re.match(r"Received http2 :?header with (?:non-200 )?status:? (?:OK)?(\d{3})", details)
    return int(found[1]) if found else None
