"""`SignalService`: the sandbox runs no gates, so there are no signals."""

from __future__ import annotations

from typing import Any

from flyteidl.admin import signal_pb2

from flytekitplugins.authagent.sandbox.control_plane.offered import Offered


class Signals(Offered):
    """Lists none."""

    def ListSignals(self, _request: Any, _context: Any) -> signal_pb2.SignalList:
        return signal_pb2.SignalList()
