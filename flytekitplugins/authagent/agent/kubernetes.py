"""placeholder"""

from __future__ import annotations

from flytekitplugins.authagent.agent.attestor import Kernel
from flytekitplugins.authagent.agent.kubernetes_settings import KubernetesSettings


class Kubernetes(Kernel):
    """placeholder"""

    def __init__(self, settings: KubernetesSettings) -> None:
        self.settings = settings
