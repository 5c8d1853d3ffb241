"""`IdentityService`: what the control plane knows of its caller."""

from __future__ import annotations

from typing import Any

from flyteidl.service import identity_pb2

from flytekitplugins.authagent.sandbox.control_plane.caller import current_caller
from flytekitplugins.authagent.sandbox.control_plane.offered import Offered


class Identity(Offered):
    """Answers who is asking; nobody, if the caller is anonymous."""

    def UserInfo(self, _request: Any, _context: Any) -> identity_pb2.UserInfoResponse:
        return current_caller().user_info
