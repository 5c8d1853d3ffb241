"""How pods are attested: which API server is asked, as whom, and what must be true of what it says."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field, model_validator

from flytekitplugins.authagent.agent.urls import BaseUrl
from flytekitplugins.authagent.errors import ConfigError
from flytekitplugins.authagent.specs import AbsolutePath, Name, Section

_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_PLACE = re.compile(r"\{\{\s*(project|domain)\s*\}\}")


def _template(text: str) -> str:
    rest = _PLACE.sub("", text)
    if "{" in rest or "}" in rest or not re.fullmatch(r"[a-z0-9\-]*", rest):
        raise ValueError("write it as propeller does, such as '{{ project }}-{{ domain }}'")
    return text


class KubernetesSettings(Section):
    """
    `kubernetes:` in `agent.yaml`; the defaults are those of a pod in the cluster.

    `audience` is what pods' tokens must be for. `namespace_template` is propeller's, for the namespace of a project and
    domain. With `node_name`, or a variable that holds it, pods of other nodes are refused. `max_token_lifetime`:
    seconds that a token may live.
    """

    api_server: BaseUrl = "https://kubernetes.default.svc"
    ca_file: AbsolutePath = _ACCOUNT / "ca.crt"
    token_file: AbsolutePath = _ACCOUNT / "token"
    audience: Name = "authagent"
    namespace_template: Annotated[str, AfterValidator(_template)] = "{{ project }}-{{ domain }}"
    node_name: Name | None = None
    node_name_env: Name | None = None
    max_token_lifetime: Annotated[float, Field(gt=0, le=366 * 86400, allow_inf_nan=False)] = 86400.0

    @model_validator(mode="after")
    def _one_node(self) -> KubernetesSettings:
        if self.node_name and self.node_name_env:
            raise ValueError("node_name and node_name_env: one of them is enough")
        return self

    def node(self, environ: Mapping[str, str]) -> str | None:
        """The node whose pods are attested, `None` for all. Raises `ConfigError` where the variable is not set."""
        if self.node_name_env is None:
            return self.node_name
        if not environ.get(self.node_name_env):
            raise ConfigError(f"kubernetes: the variable {self.node_name_env} is not set", hint="see node_name_env")
        return environ[self.node_name_env]

    def namespace(self, project: str, domain: str) -> str:
        """Where propeller puts the pods of a project and domain."""
        names = {"project": project, "domain": domain}
        return _PLACE.sub(lambda found: names[found[1]], self.namespace_template)
