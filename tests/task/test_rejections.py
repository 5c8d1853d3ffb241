"""What a failed RPC costs, by why it failed: counted at the server, for our remotes and for flytekit's own clients."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterator
from concurrent import futures
from typing import Any

import flytekit
import grpc
import pytest
from flyte_place import Place, use
from flyteidl.admin import project_pb2
from flyteidl.service import admin_pb2_grpc
from flytekit.configuration import Config, PlatformConfig
from flytekit.remote import FlyteRemote

from flytekitplugins.authagent import ProviderUnavailable, Rejected, authenticated, failed_call, rejection


@pytest.fixture(autouse=True)
def laptop(place: Place) -> None:
    """This process is a client of the place that mints for itself."""
    use(place.client() | {"AUTHAGENT_CONFIG": str(place.client_credentials())})


@authenticated
def ask() -> int:
    """One RPC by a bound function."""
    return len(flytekit.current_context().remote.list_projects())


def flytekits_own(endpoint: str) -> FlyteRemote:
    """As stock eager and `pyflyte` have it."""
    return FlyteRemote(Config(platform=PlatformConfig(endpoint=endpoint, insecure=True, auth_mode="authagent")))


def test_a_token_that_is_too_new_is_not_renewed_but_replayed_a_second_later(place: Place) -> None:
    place.faults.put({"clock_skew_s": {"value": 1, "count": 1}})
    while time.time() % 1 > 0.5:  # `iat` has whole seconds: late in one, the next has come before the call
        time.sleep(0.01)
    began = time.monotonic()

    assert ask() == 1

    assert time.monotonic() - began >= 1
    assert place.counts.snapshot()["mints"] == {"batch": 1}
    assert place.calls("batch")["ListProjects"] == {"accepted": 1, "rejected": 1}


def test_flytekits_own_clients_pay_no_more_for_a_rejection_that_stays(place: Place) -> None:
    remote = flytekits_own(place.plane.endpoint)
    place.faults.put({"reject_rpc": -1})

    with pytest.raises(Exception, match="rejected the credential") as refused:
        remote.list_projects()

    assert isinstance(refused.value.__cause__, Rejected)
    assert place.calls("batch")["ListProjects"] == {"accepted": 0, "rejected": 2}
    assert place.counts.snapshot()["mints"] == {"batch": 1}


def test_a_call_after_a_rejected_one_is_a_call_of_its_own(place: Place) -> None:
    remote = flytekits_own(place.plane.endpoint)
    place.faults.put({"reject_rpc": 2})
    with pytest.raises(Exception, match="rejected the credential"):
        remote.list_projects()

    assert len(remote.list_projects()) == 1
    place.faults.put({"reject_rpc": 1})
    assert len(remote.list_projects()) == 1
    assert place.calls("batch")["ListProjects"] == {"accepted": 2, "rejected": 3}


def test_a_provider_that_is_down_is_asked_once_for_a_call_that_flytekit_tries_four_times(place: Place) -> None:
    place.faults.put({"token_status": {"value": 503, "count": -1}})
    remote = flytekits_own(place.plane.endpoint)

    with pytest.raises(Exception, match="503") as failed:
        remote.list_projects()

    assert isinstance(failed.value.__cause__, ProviderUnavailable)
    assert place.counts.snapshot()["refused_mints"] == {"batch": 1}


class Server(admin_pb2_grpc.AdminServiceServicer):
    """A Flyte that answers what it is told to."""

    def __init__(self) -> None:
        self.answers: list[tuple[grpc.StatusCode, str]] = []
        self.calls: Counter[str] = Counter()
        self.headers: list[set[str]] = []

    def ListProjects(self, request: Any, context: grpc.ServicerContext) -> project_pb2.Projects:
        self.calls["ListProjects"] += 1
        self.headers.append({key for key, _ in context.invocation_metadata() if "authorization" in key})
        if self.answers:
            context.abort(*self.answers.pop(0))
        return project_pb2.Projects(projects=[project_pb2.Project(id="p")])


@pytest.fixture
def server() -> Iterator[tuple[Server, str]]:
    """It and its endpoint."""
    service = Server()
    running = grpc.server(futures.ThreadPoolExecutor(4))
    admin_pb2_grpc.add_AdminServiceServicer_to_server(service, running)
    port = running.add_insecure_port("127.0.0.1:0")
    running.start()
    yield service, f"127.0.0.1:{port}"
    running.stop(None)


UNKNOWN, UNAUTHENTICATED = grpc.StatusCode.UNKNOWN, grpc.StatusCode.UNAUTHENTICATED


def test_a_bug_of_the_server_costs_no_mint_and_no_replay(place: Place, server: tuple[Server, str]) -> None:
    service, endpoint = server
    os.environ["FLYTE_CREDENTIALS_AUTHORIZATION_METADATA_KEY"] = "authorization"
    remote = flytekits_own(endpoint)
    service.answers = [(UNKNOWN, "nil pointer dereference")] * 10

    with pytest.raises(Exception, match="nil pointer"):
        remote.list_projects()

    assert service.calls["ListProjects"] == 4  # flytekit's own retries, and none of ours between them
    assert place.counts.snapshot()["mints"] == {"batch": 1}


def test_an_ingress_that_answers_401_or_302_in_flytes_place_is_a_rejection(server: tuple[Server, str]) -> None:
    service, endpoint = server
    os.environ["FLYTE_CREDENTIALS_AUTHORIZATION_METADATA_KEY"] = "authorization"
    remote = flytekits_own(endpoint)
    for status in ("401", "302"):
        service.calls.clear()
        service.answers = [(UNKNOWN, f"Received http2 header with status: {status}")]
        assert len(remote.list_projects()) == 1
        assert service.calls["ListProjects"] == 2


def test_one_header_is_sent_and_it_is_the_one_that_was_configured(server: tuple[Server, str]) -> None:
    service, endpoint = server
    os.environ["FLYTE_CREDENTIALS_AUTHORIZATION_METADATA_KEY"] = "Flyte-Authorization"

    assert len(flytekits_own(endpoint).list_projects()) == 1

    assert service.headers == [{"flyte-authorization"}]


def test_a_server_without_authentication_is_asked_once_and_then_called(server: tuple[Server, str]) -> None:
    service, endpoint = server  # it does not offer AuthMetadataService at all

    remote = flytekits_own(endpoint)
    assert len(remote.list_projects()) == 1
    assert len(flytekits_own(endpoint).list_projects()) == 1

    assert service.headers == [{"authorization"}] * 2


class Failure(grpc.RpcError):
    """A failed call, as gRPC shows it."""

    def __init__(self, code: grpc.StatusCode, details: str) -> None:
        self.code = lambda: code
        self.details = lambda: details


@pytest.mark.parametrize(
    ("code", "details", "is_one"),
    [
        (UNAUTHENTICATED, "anything", True),
        (UNKNOWN, "Received http2 header with status: 302", True),
        (UNKNOWN, "Received http2 header with status: 500", False),
        (UNKNOWN, "", False),
        (grpc.StatusCode.PERMISSION_DENIED, "no", False),
        (grpc.StatusCode.INTERNAL, "", False),
    ],
)
def test_what_counts_as_a_rejection(code: grpc.StatusCode, details: str, is_one: bool) -> None:
    assert failed_call.is_one(Failure(code, details)) is is_one


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("invalid audience [pl4nted], wanted [map[https://flyte:{}]]", "invalid audience"),
        ("authenticated user doesn't have required scope pl4nted", "doesn't have required scope"),
        ("Token used before issued pl4nted", "used before issued"),
        ("token pl4nted is EXPIRED", "is expired"),
        ("token parse error [JWT_VERIFICATION_FAILED], pl4nted: crypto/rsa: verification error", "signature is wrong"),
        ("Received http2 header with status: 302 pl4nted", "a redirect"),
        ("pl4nted", rejection.UNKNOWN),
        ("", rejection.UNKNOWN),
    ],
)
def test_why_is_said_in_our_words_and_never_in_the_servers(theirs: str, ours: str) -> None:
    said = failed_call.reason(Failure(UNAUTHENTICATED, theirs))

    assert ours in said
    assert "pl4nted" not in said


def test_without_flytekits_frames_nothing_is_found_and_nothing_breaks() -> None:
    assert failed_call.seen_by_caller() is None
    assert failed_call.previous_attempt() is None
