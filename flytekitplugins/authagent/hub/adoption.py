"""What an execution may do with the grant that covers it: let it cover a child, which it has launched."""

from __future__ import annotations

from flytekitplugins.authagent.agent.refusal import Refusal, busy, invalid_request
from flytekitplugins.authagent.agent.workload import Workload
from flytekitplugins.authagent.hub.flyte import Executions
from flytekitplugins.authagent.hub.grants import Ended, ask_flyte, make_way
from flytekitplugins.authagent.hub.store import Grant, Store, Taken, TooMany


class Adoption:
    """
    It waits for the database and for Flyte, in the thread that calls.

    `ended` is told of a grant that was in the way: of somebody who had guessed a name, and whose execution it is not.
    """

    def __init__(self, store: Store, executions: Executions, ended: Ended) -> None:
        self._store, self._executions, self._ended = store, executions, ended

    def adopt(self, workload: Workload, child: str) -> Grant:
        """
        Let the grant that covers the attested execution of `workload` cover `child`, which it launched.

        Raises `Refusal`: `unauthorized_client` where there is no grant, `access_denied` where there is one and it
        cannot cover `child`.
        """
        pod = workload.pod
        if pod is None or pod.execution is None:
            raise Refusal(400, "unauthorized_client", "no rule gives this", "no execution is attested for the caller")
        if child == pod.execution:
            raise invalid_request("an execution is no child of its own")
        covering = self._check_child(child, pod.execution)
        there = self._store.covering(child)
        if there is not None:
            make_way(self._store, there, covering.subject, child, self._ended)
        try:
            grant = self._store.children.adopt(child, pod.execution)
        except Taken:
            raise _not_covered("another grant covers that execution") from None
        except TooMany as many:
            raise busy("the grant covers as many executions as it can; wait until some have ended", str(many)) from None
        if grant is None:
            raise _no_grant()
        return grant

    def _check_child(self, child: str, parent: str) -> Grant:
        """
        The grant of `parent`. A task must not put it over what it has not launched itself; Flyte's word takes away
        here, too.
        """
        held = self._store.of_execution(parent)
        if held is None:
            raise _no_grant()
        if child.split(":")[:2] != parent.split(":")[:2]:
            raise _not_covered("a grant covers children in its own project and domain only")
        seen = ask_flyte(self._executions, child)
        if seen is None:
            raise _not_covered("Flyte knows no such execution; launch it first")
        if seen.principal != held.grant.subject:
            raise _not_covered("that execution is not one that you launched, or names a parent itself")
        if seen.over:
            raise _not_covered("that execution has ended")
        there = self._store.covering(child)
        if there is None or there.id != held.grant.id:
            older = ask_flyte(self._executions, parent)
            if older is not None and 0 < seen.created_at < older.created_at:
                raise _not_covered("that execution was there before the one that asks")
        return held.grant


def _no_grant() -> Refusal:
    return Refusal(400, "unauthorized_client", "no grant covers the execution that asks")


def _not_covered(why: str) -> Refusal:
    return Refusal(403, "access_denied", why)
