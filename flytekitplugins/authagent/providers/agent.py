"""The agent's socket: somebody else keeps what is long-lived, and hands out what is short-lived."""

from __future__ import annotations

import errno
import os
import random
import re
import stat
import struct
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from socket import AF_UNIX, SO_PEERCRED, SOCK_STREAM, SOL_SOCKET
from socket import socket as Connection
from typing import Any, NoReturn

from flytekitplugins.authagent import own_words, trust, wire
from flytekitplugins.authagent.credential import MAX_TOKEN, Credential
from flytekitplugins.authagent.errors import ConfigError, Denied, ProviderError, ProviderUnavailable
from flytekitplugins.authagent.oauth import echo, error_code, token_response
from flytekitplugins.authagent.oauth.message import Request, Response
from flytekitplugins.authagent.providers import Wanted

ANSWER_TIMEOUT = 30.0
"""Seconds for one answer. The agent itself gives up on its identity provider before that."""

BUSY = 10.0
"""Seconds for which an agent is asked again that has too much to do for this user."""

CHILDREN = "/grants/children"
"""Where an agent that says `children` in `/identity` is told of an execution that ours has launched."""

ADOPTION = 10.0
"""Seconds in which a child must be covered: its task waits as long for its grant, and then goes without."""

_NOT_THERE_YET = (errno.ENOENT, errno.ECONNREFUSED, errno.EAGAIN)


@dataclass(frozen=True)
class AgentProvider:
    """
    Asks the agent behind `socket`, by path and anew each time, so that an agent that was replaced is found again.

    `wait` is how many seconds the socket may take to appear, where its directory is there: a pod may start before
    the agent of its node. With `wait` 0 a socket that is not there means "not configured", unless `source` (a variable
    or a file) names it: then it is configured, and broken. `token_file` is shown to the agent: a projected token, which
    says of which pod we are. It may be missing in its usual place only.
    """

    socket: Path
    server_uid: int | None = None
    wait: float = 0.0
    token_file: Path | None = None
    source: str = ""
    kind: str = field(default="agent", init=False)
    _introduced: list[dict[str, Any]] = field(default_factory=list, init=False, repr=False, compare=False)

    @property
    def absent(self) -> str:
        """See `Provider`."""
        return f"there is no socket at {self.socket}"

    @property
    def remedy(self) -> str:
        """See `Provider`."""
        return "start the agent (authagent serve), or set AUTHAGENT_SOCKET to its socket"

    def fetch(self, wanted: Wanted, *, min_lifetime: float | None = None) -> Credential | None:
        """
        The token that the agent gives us, `None` where there is no agent.

        Raises `ConfigError` for a socket that is named and cannot be used, `Denied` where the agent refuses,
        `ProviderUnavailable` where it does not answer (in time), `ProviderError` where what answers is not an agent of
        ours.
        """
        if not self._is_configured():
            if self.source:
                raise ConfigError(
                    f"{self.source} names {self.socket}, where there is no socket",
                    hint="start the agent (authagent serve), or correct the path",
                )
            return None
        form = _form(wanted, min_lifetime) + self._assertion()
        response = self._answer(self._when_there_is_room(wire.post("/token", wire.form(form))))
        sent = Request(str(self.socket), tuple(form))
        response = replace(response, headers={})  # its Date is not the issuer's
        credential = token_response.read(response, sent, now=time.time(), provider=self.kind)
        return replace(
            credential,
            lifetime=None,  # it may have been in the agent's cache
            endpoint=self._flyte_endpoint(),
            header=credential.header or "authorization",  # the agent names another one where the server wants it
        )

    def _when_there_is_room(self, request: bytes) -> wire.Reply:
        """The answer to `request`; a 429 that says when to come back only where that is later than we wait."""
        deadline = time.monotonic() + BUSY
        while True:
            reply = self._ask(request)
            after = reply.headers.get("retry-after", "") if reply.status == 429 else ""
            if not re.fullmatch("[0-9]{1,3}", after):
                return reply
            pause = int(after) * random.uniform(1.0, 1.5)  # noqa: S311 - spreads load, hides nothing
            if time.monotonic() + pause > deadline:
                return reply
            time.sleep(pause)

    def _flyte_endpoint(self) -> str | None:
        """The Flyte that the agent says its tokens are for."""
        flyte = self._introduction().get("flyte")
        named = flyte.get("endpoint") if isinstance(flyte, dict) else None
        if not isinstance(flyte, dict) or not isinstance(named, str) or not named:
            return None
        match flyte.get("insecure"):
            case True:
                return "http://" + named.removeprefix("dns:///")
            case False:
                return "https://" + named.removeprefix("dns:///")
            case _:
                return named

    def identity(self, *, within: float | None = None) -> dict[str, Any] | None:
        """What the agent knows of us, and of Flyte (`GET /identity`); `None` where there is no agent."""
        return self._identity(within) if self._is_configured() else None

    def _identity(self, within: float | None = None) -> dict[str, Any]:
        shown = dict(self._assertion()).get("client_assertion", "")
        known = self._answer(self._ask(wire.get("/identity", shown), within=within)).json()
        self._check_echo(known, shown)
        return known

    def _check_echo(self, said: object, shown: str) -> None:
        """Refuse what is shown to people where it repeats the pod's token. Raises `ProviderError`."""
        echo.check([said], Request("", (("client_assertion", shown),)), f"the agent at {self.socket}")

    def _answer(self, reply: wire.Reply) -> Response:
        """What the agent answered. Raises as `fetch` where it refuses."""
        response = Response(str(self.socket), reply.status, reply.headers, reply.body)
        if response.is_refusal:
            self._refused(response)
        return response

    def _introduction(self, within: float | None = None) -> dict[str, Any]:
        """What the agent says of itself in `identity`. Asked once: what serves another Flyte would be another agent."""
        if not self._introduced:
            self._introduced.append(self._identity(within))
        return self._introduced[0]

    def launcher(self, execution: str, *, within: float) -> str | None:
        """
        For whom `execution` (`project:domain:name`) has a grant, if the agent attests that we belong to it.

        `None` where it does not, or there is no grant. Grants come and end, so this is asked each time, and of an agent
        that attests no executions never. Raises as `fetch`; `within` is in seconds.
        """
        if _attested(self._introduction(within)) != execution:
            return None
        known = self._identity(within)
        grant = known.get("grant")
        subject = grant.get("subject") if isinstance(grant, dict) else None
        return subject if _attested(known) == execution and isinstance(subject, str) and subject else None

    def takes_children(self, *, within: float | None = None) -> bool:
        """Whether it keeps grants, which can cover what an execution launches. Raises as `fetch`."""
        return isinstance(self._introduction(within).get("children"), str)

    def adopt(self, child: str, *, patience: float = ADOPTION) -> bool:
        """
        Let the grant of our execution cover `child` (`project:domain:name`), which it has launched.

        `False` where there is nothing that could: the agent keeps no grants, or none for our execution. A child that
        is refused although there is one raises `Denied`, with the hub's words. An agent that cannot do it now is asked
        again, for `patience` seconds in all; the hub takes the same child twice. Else it raises as `fetch`.
        """
        deadline, pause = time.monotonic() + patience, 0.2
        while True:
            try:
                return self._adopted(child, deadline)
            except ProviderUnavailable:
                if deadline - time.monotonic() <= pause:
                    raise
            time.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 - spreads load, hides nothing
            pause = min(pause * 2, 2.0)

    def _adopted(self, child: str, deadline: float) -> bool:
        if not self.takes_children(within=deadline - time.monotonic()):
            return False
        form = [("execution", child), *self._assertion()]
        reply = self._ask(wire.post(CHILDREN, wire.form(form)), within=deadline - time.monotonic())
        response = Response(str(self.socket), reply.status, reply.headers, reply.body)
        if (reply.status, _error(response)[0]) == (400, "unauthorized_client"):  # with a grant it is `access_denied`
            return False
        if self._answer(reply).json().get("execution") != child:
            raise ProviderError(f"the agent at {self.socket} does not say that it covers {child}")
        return True

    def page(self, path: str, *, within: float | None = None) -> tuple[int, str] | None:
        """
        The status and text of another page of the agent's, for people to look at; `None` where there is no agent.

        Raises as `fetch`, also where the text repeats the pod's token, which the agent has seen before.
        """
        if not self._is_configured():
            return None
        reply = self._ask(wire.get(path), within=within)
        text = reply.body.decode("utf-8", "replace")
        self._check_echo(text, dict(self._assertion()).get("client_assertion", ""))
        return reply.status, text

    def _assertion(self) -> list[tuple[str, str]]:
        """The pod's token, read each time, for kubelet replaces it (RFC 7523 section 2.2)."""
        if self.token_file is None:
            return []
        try:
            shown = trust.read(self.token_file, secret=False, limit=MAX_TOKEN).decode("ascii").strip()
        except FileNotFoundError:
            if self.token_file == Path(wire.POD_TOKEN):
                return []
            raise ConfigError(
                f"the pod's token is not there: token_file is {self.token_file}",
                hint="mount a projected serviceAccountToken there",
            ) from None
        except OSError as failed:
            raise ConfigError(f"{self.token_file} cannot be read: {failed.strerror}") from None
        except UnicodeDecodeError:
            shown = ""
        if not shown.isprintable() or not shown or " " in shown:
            raise ConfigError(
                f"{self.token_file} does not hold a token", hint="mount a projected serviceAccountToken there"
            )
        return [("client_assertion_type", wire.ASSERTION_TYPE), ("client_assertion", shown)]

    def _is_configured(self) -> bool:
        if len(os.fsencode(self.socket)) > wire.MAX_SOCKET_PATH:
            raise ConfigError(
                f"{self._named} is too long for a Unix socket", hint=f"{wire.MAX_SOCKET_PATH} bytes at most"
            )
        try:
            if not stat.S_ISSOCK(self.socket.stat().st_mode):
                raise ConfigError(f"{self._named} is not a socket", hint="name the agent's")
        except (FileNotFoundError, NotADirectoryError):
            return bool(self.wait) and self.socket.parent.is_dir()
        except OSError as failed:
            raise ConfigError(f"{self._named} cannot be used: {failed.strerror}") from None
        return True

    @property
    def _named(self) -> str:
        return f"{self.source}: {self.socket}" if self.source else str(self.socket)

    def _ask(self, request: bytes, *, within: float | None = None) -> wire.Reply:
        """The answer, `within` seconds; where they are left out, after `wait` for the socket and `ANSWER_TIMEOUT`."""
        latest = None if within is None else time.monotonic() + within
        with self._connect(self.wait if within is None else min(self.wait, within)) as connection:
            self._check_server(connection)
            now = time.monotonic()
            deadline = min(now + ANSWER_TIMEOUT, latest or float("inf"))
            reader = wire.Reader()
            try:
                connection.settimeout(_left(deadline))  # of `sendall` it is the limit for the whole
                connection.sendall(request)
                while reader.reply is None:
                    connection.settimeout(_left(deadline))
                    piece = connection.recv(65536)
                    reader.feed(piece) if piece else reader.end()
            except TimeoutError:
                raise ProviderUnavailable(
                    f"the agent at {self.socket} did not answer in {max(deadline - now, 0):.3g} s"
                ) from None
            except (wire.Broken, OSError) as broken:
                raise ProviderUnavailable(f"the agent at {self.socket}: {broken}") from None
            return reader.reply

    def _connect(self, wait: float) -> Connection:
        """A connection to the socket, waiting for it to appear. Back-off with jitter, so that a node's pods spread."""
        deadline, pause = time.monotonic() + wait, 0.01
        while True:
            connection = Connection(AF_UNIX, SOCK_STREAM)
            connection.settimeout(0)  # a full backlog is waited for below, and not in the kernel
            try:
                connection.connect(str(self.socket))
            except OSError as refused:
                connection.close()
                busy = refused.errno == errno.EAGAIN  # a full backlog: the agent is there
                if refused.errno not in _NOT_THERE_YET:
                    self._unusable(refused)
                left = (deadline + busy) - time.monotonic()
                if left <= 0:
                    self._absent_too_long(refused, wait)
                time.sleep(min(pause * random.uniform(0.5, 1.0), left))  # noqa: S311 - spreads load, hides nothing
                pause = min(pause * 2, 0.5)
            else:
                return connection

    def _check_server(self, connection: Connection) -> None:
        raw = connection.getsockopt(SOL_SOCKET, SO_PEERCRED, struct.calcsize("3i"))
        uid = struct.unpack("3i", raw)[1]
        if not wire.trusted_server(uid, os.geteuid(), self.server_uid):
            raise ProviderError(
                f"the socket {self.socket} is served by uid {uid}, whom we have no reason to trust",
                hint="if that is the agent, set server_uid in the binding",
            )

    def _unusable(self, refused: OSError) -> NoReturn:
        if refused.errno in (errno.EACCES, errno.EPERM):
            raise ConfigError(
                f"the socket {self._named} is not for uid {os.geteuid()}",
                hint="run as the agent's user, or let the agent's `mode:` and `group:` admit this one",
            ) from None
        raise ConfigError(f"{self._named} cannot be used: {refused.strerror}") from None

    def _absent_too_long(self, refused: OSError, wait: float) -> NoReturn:
        waited = f" after {wait:.3g} s" if wait else ""
        if refused.errno == errno.EAGAIN:
            raise ProviderUnavailable(f"the agent at {self.socket} is busy: it accepts no connection") from None
        what = "nobody listens at" if refused.errno == errno.ECONNREFUSED else "there is no socket at"
        raise ProviderUnavailable(
            f"{what} {self.socket}{waited}", hint="is the agent of this machine running?"
        ) from None

    def _refused(self, reply: Response) -> NoReturn:
        """Sentences of ours are written for callers; others are not shown, for the request held the pod's token."""
        code, words = _error(reply)
        if code is None and reply.status == 503:  # it has too many connections to read what they want
            raise ProviderUnavailable(f"the agent at {self.socket} is busy")
        if code is None:
            raise ProviderError(
                f"{self.socket} answered {reply.status}, and not as an agent does", hint="is it an authagent's socket?"
            )
        message = f"the agent at {self.socket} answered {code}{f': {words}' if words else ''}"
        if code == "server_error":
            raise ProviderError(message, hint="tell the agent's operator: its log and its audit file say what is wrong")
        if reply.status in (429, 500, 502, 503, 504):
            raise ProviderUnavailable(message)
        if code == "unsupported_grant_type":
            raise ProviderError(message, hint="the agent is of another release")
        raise Denied(message, hint=_HINTS.get(code, ""))


def _error(reply: Response) -> tuple[str | None, str]:
    """
    The error code, and a sentence of ours where the agent says one (RFC 6749 section 5.2); no code where the reply is
    of another kind.
    """
    try:
        answer = reply.json()
    except ProviderError:
        return None, ""
    if "error" not in answer:
        return None, ""
    return error_code.shown(answer), own_words.said(answer)


def _attested(identity: dict[str, Any]) -> object:
    """The execution of the pod that we are in, as the agent attests it; `None` where it does not."""
    pod = identity.get("pod")
    return pod.get("execution") if isinstance(pod, dict) else None


def _left(deadline: float) -> float:
    """Seconds until then, more than none: a socket takes zero for "do not wait at all". Raises `TimeoutError`."""
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


_HINTS = {
    "unauthorized_client": "ask the operator for a rule that gives this",
    "invalid_client": (
        "no rule of the agent is for this user (uid), or for this pod; where the agent attests pods, mount a projected"
        f" token at {wire.POD_TOKEN}, or name it by AUTHAGENT_POD_TOKEN or token_file"
    ),
    "invalid_scope": "ask for the scopes that the rule gives",
    "invalid_target": "ask for the audience that the rule gives",
}


def _form(wanted: Wanted, min_lifetime: float | None) -> list[tuple[str, str]]:
    optional = {
        "audience": wanted.audience,
        "scope": " ".join(wanted.scopes),
        "requested_subject": wanted.subject,
        "min_lifetime": str(int(min_lifetime)) if min_lifetime else None,
        "execution": wanted.context.execution_id,
        "task": wanted.context.task,
    }
    return [("grant_type", wire.CLIENT_CREDENTIALS), *((name, value) for name, value in optional.items() if value)]
