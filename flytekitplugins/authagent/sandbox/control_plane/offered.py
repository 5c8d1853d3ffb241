"""What a service does with the methods that the sandbox does not have."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

from flytekitplugins.authagent.sandbox.refusal import not_offered


class Offered:
    """
    A gRPC service of which only the methods in the class exist; the others answer UNIMPLEMENTED.

    It stands where a generated servicer would, and does not inherit from one, whose methods would hide which
    ones the sandbox has.
    """

    def __getattr__(self, method: str) -> Callable[[Any, Any], NoReturn]:
        if not method[:1].isupper():  # methods of a service are written LikeThis, attributes of Python are not
            raise AttributeError(method)

        def refuse(_request: Any, _context: Any) -> NoReturn:
            raise not_offered(f"the sandbox does not offer {method}; a real Flyte does")

        return refuse
