"""`DataProxyService`: how files get into the sandbox, and decks and values out of it."""

from __future__ import annotations

import base64
import hashlib
import secrets
import time
from pathlib import Path
from typing import Any

import grpc
from flyteidl.service import dataproxy_pb2
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from flytekitplugins.authagent.sandbox.control_plane import flyte_url
from flytekitplugins.authagent.sandbox.control_plane.executions import Executions
from flytekitplugins.authagent.sandbox.control_plane.offered import Offered
from flytekitplugins.authagent.sandbox.control_plane.signed_urls import SignedUrls
from flytekitplugins.authagent.sandbox.executor.records import NodeRecord
from flytekitplugins.authagent.sandbox.refusal import Refusal, exists, invalid, written

LONGEST = 3600.0
"""Seconds that a signed URL is good for, if nothing shorter is asked for."""


class DataProxy(Offered):
    """Signs URLs of uploads, which go below `uploads/PROJECT/DOMAIN`, and of what executions left behind."""

    def __init__(self, urls: SignedUrls, executions: Executions) -> None:
        self._urls = urls
        self._executions = executions

    def CreateUploadLocation(self, request: Any, _context: Any) -> dataproxy_pb2.CreateUploadLocationResponse:
        if not request.project or not request.domain:
            raise invalid("project and domain are required parameters")
        if not request.filename_root and not request.content_md5:
            raise invalid("content_md5 or filename_root is a required parameter")
        seconds = _seconds(request, "expiresIn")
        root = request.filename_root or base64.b32encode(request.content_md5).decode()
        parts = (request.org, request.project, request.domain, root, request.filename or secrets.token_hex(10))
        path = self._upload(*filter(None, parts))
        if request.filename and request.filename_root and path.exists():
            _check_same(path, request.content_md5)
        return dataproxy_pb2.CreateUploadLocationResponse(
            signed_url=self._urls.sign("PUT", path, seconds, request.content_md5),
            native_url=str(path),
            expires_at=_after(seconds),
        )

    def CreateDownloadLocation(self, request: Any, _context: Any) -> dataproxy_pb2.CreateDownloadLocationResponse:
        seconds = _seconds(request, "error while validating request: expiresIn is invalid. Error: input duration")
        if "://" not in request.native_url and not request.native_url.startswith("/"):
            reason = "it names no bucket" if request.native_url else "it is empty"
            raise Refusal(grpc.StatusCode.INTERNAL, f"failed to create a signed url. Error: {reason}")
        path = Path(request.native_url.removeprefix("file://"))
        if not self._urls.contains(path):
            raise invalid("error while validating request: native_url is no place in the sandbox's store")
        signed = self._urls.sign("GET", path.resolve(), seconds)
        return dataproxy_pb2.CreateDownloadLocationResponse(signed_url=signed, expires_at=_after(seconds))

    def CreateDownloadLink(self, request: Any, _context: Any) -> dataproxy_pb2.CreateDownloadLinkResponse:
        if request.artifact_type != dataproxy_pb2.ARTIFACT_TYPE_DECK:
            kind = dataproxy_pb2.ArtifactType.Name(request.artifact_type)
            raise invalid(f"error while validating request. Error: invalid artifact type [{kind}]")
        seconds = _seconds(request, "error while validating request. Error: expiresIn")
        try:
            node = self._executions.node(request.node_execution_id)
        except Refusal as refusal:
            sought = written(request.node_execution_id)
            raise invalid(f"failed to find node execution [{sought}]. Error: {refusal}") from None
        signed = self._deck(node, seconds)
        return dataproxy_pb2.CreateDownloadLinkResponse(
            signed_url=signed.signed_url, expires_at=signed.expires_at, pre_signed_urls=signed
        )

    def GetData(self, request: Any, _context: Any) -> dataproxy_pb2.GetDataResponse:
        url = flyte_url.parsed(request.flyte_url)
        if url.attempt is not None and len(self._executions.attempts(url.node)) <= url.attempt:
            raise invalid(f"no task executions were listed [node_execution_id:{{{written(url.node)}}}]")
        node = self._executions.node(url.node)
        if url.what == "d":
            return dataproxy_pb2.GetDataResponse(pre_signed_urls=self._deck(node, LONGEST))
        holder: Any = node if url.attempt is None else node.attempts[url.attempt]
        found = holder.inputs if url.what == "i" else holder.outputs
        if url.name is None:
            return dataproxy_pb2.GetDataResponse(literal_map=found)
        if url.name not in found.literals:
            raise Refusal(grpc.StatusCode.NOT_FOUND, f"name [{url.name}] not found in the data of {node.id}")
        return dataproxy_pb2.GetDataResponse(literal=found.literals[url.name])

    def _upload(self, *parts: str) -> Path:
        """The place of an upload; a part may name a file in a directory, and none may lead elsewhere."""
        steps = [step for part in parts for step in part.split("/")]
        for step in steps:
            if step in ("", ".", "..") or "\0" in step or len(step) > 200:
                raise invalid(f"{step[:80]!r} is no name for a file")
        return self._urls.root.joinpath("uploads", *steps)

    def _deck(self, node: NodeRecord, seconds: float) -> dataproxy_pb2.PreSignedURLs:
        deck = node.message.closure.deck_uri
        if not deck:
            raise Refusal(grpc.StatusCode.INTERNAL, f"no deckUrl found for node {node.id}")
        signed = self._urls.sign("GET", Path(deck).resolve(), seconds)
        return dataproxy_pb2.PreSignedURLs(signed_url=[signed], expires_at=_after(seconds))


def _check_same(path: Path, md5: bytes) -> None:
    """A file that is there may only be written again as it is."""
    digest = hashlib.md5(usedforsecurity=False)
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    if digest.digest() != md5:
        raise exists(f"file already exists at location [{path}], specify a matching hash if you wish to rewrite")


def _seconds(request: Any, name: str) -> float:
    if not request.HasField("expires_in"):
        return LONGEST
    asked: Duration = request.expires_in
    seconds: float = asked.ToNanoseconds() / 1e9
    if not 0 <= seconds <= LONGEST:
        raise invalid(f"{name} [{_go(seconds)}] cannot exceed max allowed expiration [{_go(LONGEST)}]")
    return seconds


def _go(seconds: float) -> str:
    """A duration as Go writes it: `1h0m0s`."""
    sign, length = "-" if seconds < 0 else "", abs(seconds)
    hours, minutes = length // 3600, length // 60
    parts = [f"{hours:.0f}h" if hours else "", f"{minutes % 60:.0f}m" if minutes else "", f"{length % 60:g}s"]
    return sign + "".join(parts)


def _after(seconds: float) -> Timestamp:
    moment = Timestamp()
    moment.FromNanoseconds(int((time.time() + seconds) * 1e9))
    return moment
