"""flytekit's execution context, with a remote in it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from flytekit.core.context_manager import ExecutionParameters

if TYPE_CHECKING:
    from flytekit.remote import FlyteRemote

    from flytekitplugins.authagent.handle import Handle
    from flytekitplugins.authagent.identity import Identity

_ADDED = ("remote", "identity", "tokens")


class Tokens(Mapping[str, str]):
    """The tokens that a task declared, by name. Each access gives a fresh one; the repr gives names only."""

    def __init__(self, handle: Handle) -> None:
        self._handle = handle

    def __getitem__(self, name: str) -> str:
        return self._handle.token(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._handle.token_requests)

    def __len__(self) -> int:
        return len(self._handle.token_requests)

    def __repr__(self) -> str:
        return f"Tokens({', '.join(self)})"


class BoundParameters(ExecutionParameters):  # type: ignore[misc] # flytekit has no types
    """
    The same parameters (it shares their very state), seen through a class that has `remote`, `identity` and `tokens`.

    flytekit's builders make plain parameters of it again, so nothing of ours reaches a child task.
    """

    __slots__ = ("_handle",)
    _handle: Handle

    def __init__(self) -> None:
        raise TypeError("use BoundParameters.of(...)")

    @classmethod
    def of(cls, parameters: ExecutionParameters, handle: Handle) -> BoundParameters:
        """A view of `parameters` with the remote of `handle`."""
        bound: BoundParameters = cls.__new__(cls)
        object.__setattr__(bound, "__dict__", parameters.__dict__)
        object.__setattr__(bound, "_handle", handle)
        return bound

    @property
    def remote(self) -> FlyteRemote:
        """
        An authenticated `FlyteRemote`; its defaults are the execution's project and domain.

        The first use obtains the credential, so whatever is wrong with it is raised here, as an `AuthAgentError`.
        """
        return self._handle.remote()

    @property
    def identity(self) -> Identity:
        """
        Who launched this execution, and whom it runs as, each with its source. Nothing of it is authorisation.

        The first use asks Flyte, and raises as `remote` where that cannot be done; what is merely not known is empty.
        """
        return self._handle.identity()

    @property
    def tokens(self) -> Tokens:
        """The further tokens that `AuthAgent(tokens=...)` declares."""
        return Tokens(self._handle)

    def __getattr__(self, attr_name: str) -> Any:
        # Reached by `get("remote")`, which passes the name by keyword, and by a property that raised AttributeError:
        # the latter would be reported as "not available", so the handle never lets one out.
        if attr_name.lower() in _ADDED:
            return getattr(type(self), attr_name.lower()).__get__(self)
        return super().__getattr__(attr_name)

    def has_attr(self, name: str) -> bool:
        """As flytekit's, and true for what this class adds."""
        return name.lower() in _ADDED or bool(super().has_attr(name))
