"""`SignalService`: what gates wait for, and how people say it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import grpc
from flyteidl.admin import signal_pb2
from flyteidl.core import identifier_pb2

from flytekitplugins.authagent.sandbox.control_plane.executions import Executions
from flytekitplugins.authagent.sandbox.control_plane.listing import Listing
from flytekitplugins.authagent.sandbox.control_plane.offered import Offered
from flytekitplugins.authagent.sandbox.control_plane.validation.fields import check_execution_id, check_required
from flytekitplugins.authagent.sandbox.executor.executor import Executor
from flytekitplugins.authagent.sandbox.executor.records import SignalRecord
from flytekitplugins.authagent.sandbox.literal_types import fits
from flytekitplugins.authagent.sandbox.refusal import Refusal, invalid, written


class Signals(Offered):
    """The signals of executions: a gate makes its own when it begins to wait."""

    def __init__(self, executions: Executions, executor: Executor) -> None:
        self._executions = executions
        self._executor = executor
        self._listing = Listing("ListSignals", "signal", "s", _row, {"signal_id": ""})

    def ListSignals(self, request: Any, _context: Any) -> signal_pb2.SignalList:
        check_execution_id(request, "workflow_execution_id", "execution_id")
        signals = self._executions.signals(request.workflow_execution_id)
        page, token = self._listing.page(list(signals.values()), request)
        return signal_pb2.SignalList(signals=[signal.message for signal in page], token=token)

    def GetOrCreateSignal(self, request: Any, _context: Any) -> signal_pb2.Signal:
        _check_id(request)
        check_required(request, [("type", "type")])
        execution = self._executions.get(request.id.execution_id)
        return self._executor.call(lambda: execution.signal(request.id.signal_id, request.type)).message

    def SetSignal(self, request: Any, _context: Any) -> signal_pb2.SignalSetResponse:
        _check_id(request)
        check_required(request, [("value", "value")])
        signal = self._executions.signals(request.id.execution_id).get(request.id.signal_id)
        if signal is None:
            message = f"missing entity of type signal with identifier {written(request.id)}"
            raise Refusal(grpc.StatusCode.NOT_FOUND, message)
        if not fits(request.value, signal.message.type):
            kind = written(signal.message.type)
            raise invalid(
                f"requested signal value [{written(request.value)}] is not castable to existing type [{kind}]"
            )
        self._executor.call(lambda: signal.set(request.value))
        return signal_pb2.SignalSetResponse()


def _check_id(request: Any) -> None:
    check_required(request, [("id", "id"), ("id.signal_id", "signal_id"), ("id.execution_id", "execution_id")])
    names: identifier_pb2.WorkflowExecutionIdentifier = request.id.execution_id
    check_required(names, [(field, field) for field in ("project", "domain", "name")])


def _row(signal: SignalRecord) -> Mapping[str, Any]:
    return {"signal_id": signal.message.id.signal_id}
