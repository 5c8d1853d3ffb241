"""A URL over which secrets may travel, as `agent.yaml` spells it."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator

from flytekitplugins.authagent.errors import ConfigError
from flytekitplugins.authagent.http import check_url


def checked(text: str) -> str:
    """`text` as it stands. Raises `ValueError` where `http.check_url` would refuse it."""
    try:
        check_url(text)
    except ConfigError as wrong:
        raise ValueError(str(wrong)) from None
    return text


def base(text: str) -> str:
    """The same, without a slash at its end: paths are put after it."""
    return checked(text).rstrip("/")


Url = Annotated[str, AfterValidator(checked)]
BaseUrl = Annotated[str, AfterValidator(base)]
