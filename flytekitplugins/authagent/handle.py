"""What stands behind `.remote` while a function runs: built on first use, closed at its end."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from types import TracebackType
from typing import TYPE_CHECKING

from flytekit.core.context_manager import ExecutionParameters
from flytekit.models.security import SecurityContext

from flytekitplugins.authagent.context import Context, RunAs, from_environment
from flytekitplugins.authagent.errors import AuthAgentError, ConfigError, NoCredential
from flytekitplugins.authagent.recoverable import for_flyte
from flytekitplugins.authagent.task import AuthAgent, TokenRequest, selectors

if TYPE_CHECKING:
    from flytekit.remote import FlyteRemote

    from flytekitplugins.authagent.credential import Credential
    from flytekitplugins.authagent.identity import Identity


def _undeclared() -> SecurityContext | None:
    return None


class Handle:
    """
    The remote, the identity and the tokens of one run of one bound function.

    Thread-safe, and good in processes forked from here. What costs anything (configuration, providers, clients)
    is imported on first use: a task that never touches its remote does not pay for it.
    """

    def __init__(
        self,
        config: AuthAgent,
        parameters: ExecutionParameters | None = None,
        security_context: Callable[[], SecurityContext | None] = _undeclared,
    ) -> None:
        self.config = config
        self._parameters = parameters
        self._security_context = security_context
        self._remote: FlyteRemote | None = None
        self._identity: Identity | None = None
        self._closed = False
        self._lock = threading.RLock()
        self._identity_lock = threading.Lock()  # its own: finding out takes RPCs, and the remote must not wait
        _handles.add(self)

    def __enter__(self) -> Handle:
        with _active_lock:
            _active.append(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with _active_lock:
            _active.remove(self)
        self.close()

    def remote(self) -> FlyteRemote:
        """
        The authenticated remote; the first use obtains the credential.

        Raises an `AuthAgentError`, recoverable for Flyte where trying again makes sense.
        """
        with self._lock, _flytes_errors():
            self._check_open()
            if self._remote is None:
                self._remote = self._build_remote()
            return self._remote

    def identity(self) -> Identity:
        """
        Who launched this execution; the first use asks Flyte. Raises as `remote`, and where Flyte cannot be asked.
        """
        with self._identity_lock, _flytes_errors():
            self._check_open()
            if self._identity is None:
                self._identity = self._find_identity()
            return self._identity

    def prefetch(self) -> None:
        """Obtain the credential now, without any RPC. Raises as `remote`."""
        with _flytes_errors():
            self._credential()

    def token(self, name: str) -> str:
        """A fresh token for the request called `name`. Raises as `remote`, and for a name that is not declared."""
        with _flytes_errors():
            self._check_open()
            request = self.token_requests.get(name)
            if request is None:
                raise ConfigError(
                    f"no token {name!r} is declared; declared are {', '.join(self.token_requests) or 'none'}",
                    hint='declare it: AuthAgent(tokens={"...": TokenRequest(audience="...")})',
                )
            return self._token(name, request)

    def close(self) -> None:
        """Nothing comes out of here any more."""
        with self._lock:
            remote, self._remote, self._closed = self._remote, None, True
        if remote is not None:
            from flytekitplugins.authagent import task_remote

            task_remote.forget(remote)

    @cached_property
    def token_requests(self) -> Mapping[str, TokenRequest]:
        """What the configuration and the task's `SecurityContext` declare, by name; the configuration wins."""
        declared = self._security_context()
        by_task = {
            request.name: TokenRequest(client=request.client.client_id if request.client else None)
            for request in (declared.tokens if declared else None) or ()
        }
        return by_task | dict(self.config.tokens)

    @cached_property
    def context(self) -> Context:
        """The execution as propeller describes it, and the identity that the configuration or the task declares."""
        run_as = self.config.selectors
        if run_as == RunAs():
            declared = self._security_context()
            run_as = selectors(declared.run_as if declared else None)
        seen = from_environment(os.environ)
        return Context(seen.project, seen.domain, seen.execution, seen.task, run_as)

    # What is behind all this, one method each: `testing` has others for tests that must not reach anybody.

    def _build_remote(self) -> FlyteRemote:
        from flytekitplugins.authagent import task_remote

        return task_remote.build(self.config, self.context, self._parameters)

    def _find_identity(self) -> Identity:
        from flytekitplugins.authagent import identity

        return identity.find(self.context, self.remote, self._own_credential)

    def _credential(self) -> Credential:
        from flytekitplugins.authagent import task_remote

        return task_remote.resolved(self.config, self.context).source.get()

    def _own_credential(self) -> Credential | None:
        """`None` where flytekit authenticates by its own means."""
        try:
            return self._credential()
        except NoCredential:
            return None

    def _token(self, _name: str, request: TokenRequest) -> str:
        from flytekitplugins.authagent import task_remote

        return task_remote.token(self.config, self.context, request)

    def _check_open(self) -> None:
        if self._closed:
            raise ConfigError("the task whose remote this was has ended", hint="use it while the task runs")

    def _forked(self) -> None:
        self._lock, self._identity_lock = threading.RLock(), threading.Lock()
        self._remote = None  # its connections are the parent's


@contextmanager
def _flytes_errors() -> Iterator[None]:
    try:
        yield
    except AuthAgentError as ours:
        raise for_flyte(ours).with_traceback(ours.__traceback__) from None
    except AttributeError as bug:
        # Out of a property it would make Python ask `__getattr__`, which says that there is no such thing.
        raise RuntimeError(f"unexpected AttributeError: {bug}") from bug


def sole_active() -> Handle | None:
    """
    The handle of the task that this process runs, for threads that flytekit's context does not reach.

    `None` where no task runs. Raises `ConfigError` where several run at once that are not alike: it would be a
    guess whose identity to use.
    """
    with _active_lock:
        handles = list(_active)
    if any(h.config != handles[0].config or h.context != handles[0].context for h in handles):
        raise ConfigError(
            "several tasks with different configurations run in this process, and this thread belongs to none",
            hint="take the remote in the task, and hand it to the thread",
        )
    return handles[-1] if handles else None


_handles: weakref.WeakSet[Handle] = weakref.WeakSet()
_active: list[Handle] = []
_active_lock = threading.Lock()


def _after_fork() -> None:
    global _active_lock  # noqa: PLW0603 - a lock that another thread of the parent held would never open
    _active_lock = threading.Lock()
    for handle in list(_handles):
        handle._forked()


os.register_at_fork(after_in_child=_after_fork)
