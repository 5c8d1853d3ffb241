"""What a hub is told beside what every agent is: where people reach it, who they are, and where grants are kept."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from flytekitplugins.authagent import endpoint
from flytekitplugins.authagent.agent import urls
from flytekitplugins.authagent.agent.people_settings import PeopleSettings
from flytekitplugins.authagent.agent.rule import duration
from flytekitplugins.authagent.specs import AbsolutePath, Name, Section

Span = Annotated[float, BeforeValidator(duration)]


def _base(text: str) -> str:
    parts = urlsplit(urls.checked(text))
    if parts.query or parts.fragment or parts.path.strip("/"):
        raise ValueError("write it without a path, such as https://hub.example.com")
    return text.rstrip("/")


def _listen(text: str) -> str:
    """An address with the scheme that is spoken there. Plaintext never leaves the machine."""
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:  # brackets that are no address, and no port
        raise ValueError("write it as https://ADDRESS:PORT") from None
    if parts.scheme not in ("http", "https") or not parts.hostname or not port or parts.path.strip("/"):
        raise ValueError("write it as https://ADDRESS:PORT")
    if parts.scheme == "http":
        host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
        if not endpoint.parse(host).loopback:
            raise ValueError("tokens would travel in plaintext; write https://, or listen on a loopback address")
    return text.rstrip("/")


Listen = Annotated[str, AfterValidator(_listen)]


class TlsFiles(Section):
    """The certificate chain and its key, in PEM. They are read again when they change."""

    certificate_file: AbsolutePath
    key_file: AbsolutePath


class HubSettings(Section):
    """
    `hub:` in `agent.yaml`.

    `url` is where people and other agents find it. `store` is `memory`, `sqlite:///FILE` or `postgresql://...`, in
    `store_file` where it has a password. The keys under which secrets are sealed stand in `keys_file`, or in the
    variable `keys_env`. `ask_flyte_as` names the upstream whose tokens ask Flyte how executions are. `longest`
    is the seconds for which a grant may last; `appears_within`, those within which an execution must be launched that a
    grant was given for in advance; `look_every`, those between two looks at an execution. `rate` is how many requests a
    second one address may make.
    """

    url: Annotated[str, AfterValidator(_base)]
    people: PeopleSettings
    store: Name = Field(default="sqlite:////var/lib/authagent/hub.db", repr=False)  # it may hold a password
    store_file: AbsolutePath | None = None
    keys_file: AbsolutePath | None = None
    keys_env: Name | None = None
    ask_flyte_as: Name
    longest: Span = 24 * 3600.0
    appears_within: Span = 300.0
    look_every: Span = 10.0
    rate: Annotated[float, Field(gt=0, le=100_000, allow_inf_nan=False)] = 200.0

    @model_validator(mode="after")
    def _one_of_each(self) -> HubSettings:
        if (self.keys_file is None) == (self.keys_env is None):
            raise ValueError("needs keys_file or keys_env, and only one of them")
        if self.store_file is not None and "store" in self.model_fields_set:
            raise ValueError("store and store_file: one of them is enough")
        return self
