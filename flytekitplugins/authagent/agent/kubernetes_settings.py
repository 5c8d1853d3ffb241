"""placeholder until the attestor lands"""

from __future__ import annotations

from flytekitplugins.authagent.specs import Section


class KubernetesSettings(Section):
    """How to reach the API server."""
