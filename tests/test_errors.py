"""The error tree: what each is called, ends with, and shows."""

from __future__ import annotations

import inspect
import pickle
import re

import pytest

from flytekitplugins.authagent import errors
from flytekitplugins.authagent.errors import AuthAgentError, NameNotResolved, ProviderUnavailable

TREE = [error for _, error in inspect.getmembers(errors, inspect.isclass) if issubclass(error, AuthAgentError)]


@pytest.mark.parametrize("error", TREE)
def test_each_is_drawn_survives_pickling_and_can_be_raised_again(error: type[AuthAgentError]) -> None:
    assert re.search(rf"[*x+] {error.__name__}\s", errors.__doc__ or "")
    made = error("it broke", hint="mend it")
    for copy in (pickle.loads(pickle.dumps(made)), made.again()):
        assert type(copy) is error
        assert (str(copy), copy.hint) == ("it broke (hint: mend it)", "mend it")
    assert str(error("it broke")) == "it broke"


def test_only_what_is_unavailable_is_worth_a_retry() -> None:
    assert {error for error in TREE if error.retryable} == {ProviderUnavailable, NameNotResolved}


def test_exit_codes_are_those_of_the_contract() -> None:
    assert {error.__name__: error.exit_code for error in TREE} == {
        "AuthAgentError": 1,
        "ConfigError": 2,
        "NameNotResolved": 2,
        "NoCredential": 3,
        "ProviderError": 3,
        "ProviderUnavailable": 5,
        "Denied": 4,
        "Rejected": 4,
        "TooShort": 4,
    }
