"""Who may call: row by row what a real flyteadmin 1.16.8 was seen to answer."""

from __future__ import annotations

import json
from base64 import urlsafe_b64encode

import grpc
import pytest
from flyteidl.admin import common_pb2, project_pb2, version_pb2
from flyteidl.service import auth_pb2, dataproxy_pb2, identity_pb2
from joserfc.jwk import KeySet, RSAKey
from running_control_plane import AUDIENCE, Issuer, Stubs, running

from flytekitplugins.authagent.sandbox.control_plane.authentication import Authentication
from flytekitplugins.authagent.sandbox.counts import Counts
from flytekitplugins.authagent.sandbox.faults import Faults
from flytekitplugins.authagent.sandbox.posture import Posture
from flytekitplugins.authagent.sandbox.refusal import Refusal

pytestmark = pytest.mark.timeout(30)

FRAME = (
    "token parse error id token err: access token err: {}, access token err: [JWT_VERIFICATION_FAILED] "
    "Could not retrieve id token from metadata, caused by: "
    "rpc error: code = Unauthenticated desc = Request unauthenticated with IDToken"
)
NO_TOKEN = (
    "[JWT_VERIFICATION_FAILED] Could not retrieve bearer token from metadata, caused by: rpc error: code = "
    "Unauthenticated desc = Request unauthenticated with Bearer"
)
NO_SCOPE = "authenticated user doesn't have required scope"
INTERNAL, EXTERNAL = Posture(issuer="internal"), Posture(issuer="external")
NOW = 1_800_000_000


@pytest.fixture(scope="module", params=[INTERNAL, EXTERNAL], ids=["internal", "external"])
def either(request, tmp_path_factory):
    """A control plane in each posture."""
    with running(tmp_path_factory.mktemp("plane"), request.param) as control_plane:
        yield control_plane


@pytest.fixture(scope="module")
def internal(tmp_path_factory):
    with running(tmp_path_factory.mktemp("plane"), INTERNAL) as control_plane:
        yield control_plane


@pytest.fixture(scope="module")
def lenient(tmp_path_factory):
    with running(tmp_path_factory.mktemp("plane"), Posture(disable_for_grpc=True)) as control_plane:
        yield control_plane


@pytest.fixture(scope="module")
def open_to_all(tmp_path_factory):
    with running(tmp_path_factory.mktemp("plane"), Posture(use_auth=False)) as control_plane:
        yield control_plane


def version(stubs: Stubs, metadata=None):
    return stubs.admin.GetVersion(version_pb2.GetVersionRequest(), metadata)


def rejected(stubs: Stubs, metadata=None) -> str:
    """The message with which GetVersion is rejected as unauthenticated, and without anything beside it."""
    with pytest.raises(grpc.RpcError) as caught:
        version(stubs, metadata)
    assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
    assert not caught.value.trailing_metadata()
    return caught.value.details()


@pytest.mark.parametrize(
    ("token", "by_internal", "by_external"),
    [
        (lambda issuer: "", NO_TOKEN, NO_TOKEN),
        (
            lambda issuer: "garbage",
            "token contains an invalid number of segments",
            "oidc: malformed jwt: go-jose/go-jose: compact JWS format must have three parts",
        ),
        (
            lambda issuer: issuer.token(exp=1),
            "Token is expired",
            "failed to validate token: Token is expired",
        ),
        (
            lambda issuer: issuer.token(iat=4_000_000_000),
            "Token used before issued",
            "failed to validate token: Token used before issued",
        ),
        (
            lambda issuer: issuer.token(signed_by=RSAKey.generate_key(2048, {"kid": "rsa"})),
            "crypto/rsa: verification error",
            "failed to verify id token signature",
        ),
    ],
    ids=["no token", "garbage", "expired", "from the future", "wrong key"],
)
def test_a_bad_token_is_rejected_in_flyteadmins_words(either, token, by_internal, by_external):
    reason = by_internal if either.posture.issuer == "internal" else by_external

    assert rejected(either.stubs(token(either.issuer))) == FRAME.format(reason)


def test_another_audience_is_rejected_and_the_wanted_one_named(either):
    message = rejected(either.stubs(either.issuer.token(aud=["http://elsewhere"])))

    assert message.startswith("token parse error id token err: access token err: invalid audience [")
    assert f"], wanted [map[{AUDIENCE}:{{}}]], access token err: " in message


def test_a_good_token_looks_bad_while_the_keys_cannot_be_had(either):
    either.issuer.unreachable = True
    try:
        message = rejected(either.stubs())
    finally:
        either.issuer.unreachable = False

    assert message == FRAME.format("fetching keys oidc: get keys failed connection refused")


@pytest.mark.parametrize("token", ["a.b.c", "..", "...", "e30.e30.", ".", "eyJhbGciOiJub25lIn0.e30."])
def test_whatever_is_sent_as_a_token_is_rejected_and_nothing_breaks(either, token):
    assert rejected(either.stubs(token)).startswith("token parse error")


def test_an_unsigned_token_is_rejected(either):
    def part(claims):
        return urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")

    token = f"{part({'alg': 'none'})}.{part({'aud': [AUDIENCE], 'scp': ['all']})}."

    assert rejected(either.stubs(token)).startswith("token parse error")


@pytest.mark.parametrize(
    ("claims", "accepted"),
    [
        ({"scp": ["all"]}, True),
        ({"scp": ["offline", "all"]}, True),
        ({"scp": "all"}, True),
        ({"scp": "all offline", "client_id": "x"}, False),
        ({"scp": ["offline"], "client_id": ""}, False),
        ({"scp": [], "client_id": "x"}, False),
        ({"scp": [], "client_id": ""}, True),
        ({"scope": "all", "scp": [], "client_id": "x"}, False),
    ],
)
def test_only_the_scp_claim_says_what_a_token_may_do(either, claims, accepted):
    stubs = either.stubs(either.issuer.token(**claims))

    if accepted:
        assert version(stubs).control_plane_version.Version == "v1.16.8"
    else:
        assert rejected(stubs) == NO_SCOPE


def test_a_token_without_client_and_scopes_may_do_everything(either):
    assert version(either.stubs(either.issuer.token(without=("scp", "client_id"))))


@pytest.mark.parametrize("claims", [{"client_id": 7}, {"user_info": "me"}, {"email": []}])
def test_a_claim_of_the_wrong_type_is_an_internal_error_without_a_word(either, claims):
    with pytest.raises(grpc.RpcError) as caught:
        version(either.stubs(either.issuer.token(**claims)))

    assert caught.value.code() is grpc.StatusCode.INTERNAL
    assert caught.value.details() == ""


@pytest.mark.parametrize("header", ["authorization", "flyte-authorization"])
@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
def test_a_token_is_found_in_either_header_and_under_any_spelling_of_bearer(internal, header, scheme):
    assert version(internal.stubs(""), ((header, f"{scheme} {internal.issuer.token()}"),))


def test_what_is_in_authorization_hides_what_is_in_flyte_authorization(internal):
    good = f"Bearer {internal.issuer.token()}"

    message = rejected(internal.stubs(""), (("flyte-authorization", good), ("authorization", "Bearer garbage")))

    assert message == FRAME.format("token contains an invalid number of segments")
    assert version(internal.stubs(""), (("flyte-authorization", "Bearer garbage"), ("authorization", good)))


@pytest.mark.parametrize("issuer_key", ["rsa", "ec"])
def test_both_kinds_of_keys_are_good(either, issuer_key):
    assert version(either.stubs(either.issuer.token(signed_by=getattr(either.issuer, issuer_key))))


def test_whoever_wants_to_log_in_needs_no_token(either):
    stubs = either.stubs("")

    metadata = stubs.auth.GetOAuth2Metadata(auth_pb2.OAuth2MetadataRequest())
    client = stubs.auth.GetPublicClientConfig(auth_pb2.PublicClientAuthConfigRequest())

    assert metadata.token_endpoint == either.issuer.token_endpoint
    assert (client.client_id, client.authorization_metadata_key) == ("flytectl", "flyte-authorization")
    assert either.counts.snapshot()["discoveries"]["GetOAuth2Metadata"] >= 1


@pytest.mark.parametrize(
    "call",
    [
        lambda stubs: stubs.admin.GetVersion(version_pb2.GetVersionRequest()),
        lambda stubs: stubs.data.CreateUploadLocation(dataproxy_pb2.CreateUploadLocationRequest()),
        lambda stubs: stubs.identity.UserInfo(identity_pb2.UserInfoRequest()),
        lambda stubs: stubs.admin.ListProjects(project_pb2.ProjectListRequest()),
        lambda stubs: stubs.admin.GetTask(common_pb2.ObjectGetRequest()),
    ],
)
def test_everything_else_needs_one(internal, call):
    with pytest.raises(grpc.RpcError) as caught:
        call(internal.stubs(""))

    assert caught.value.details() == FRAME.format(NO_TOKEN)


def test_without_enforcement_a_bad_token_makes_an_anonymous_caller(lenient):
    for token in ("", "garbage", lenient.issuer.token(exp=1)):
        stubs = lenient.stubs(token)
        assert version(stubs)
        assert stubs.identity.UserInfo(identity_pb2.UserInfoRequest()) == identity_pb2.UserInfoResponse()


def test_without_enforcement_a_good_token_still_needs_its_scope(lenient):
    assert rejected(lenient.stubs(lenient.issuer.token(scp=["offline"], client_id="x"))) == NO_SCOPE


def test_without_authentication_there_are_no_services_that_speak_of_it(open_to_all):
    stubs = open_to_all.stubs("")
    assert version(stubs)
    for call in (
        lambda: stubs.auth.GetOAuth2Metadata(auth_pb2.OAuth2MetadataRequest()),
        lambda: stubs.auth.GetPublicClientConfig(auth_pb2.PublicClientAuthConfigRequest()),
        lambda: stubs.identity.UserInfo(identity_pb2.UserInfoRequest()),
    ):
        with pytest.raises(grpc.RpcError) as caught:
            call()
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_the_caller_can_read_who_flyte_thinks_it_is(either):
    token = either.issuer.token(sub="alice", email="alice@example.com", client_id="cli")

    info = either.stubs(token).identity.UserInfo(identity_pb2.UserInfoRequest())

    assert (info.subject, info.email) == ("alice", "alice@example.com")
    assert info.additional_claims["client_id"] == "cli"


def test_every_decision_is_counted_under_the_client_of_the_token(internal):
    internal.issuer.clients["known"] = "batch"
    internal.counts.reset()

    version(internal.stubs(internal.issuer.token(jti="known")))
    rejected(internal.stubs(internal.issuer.token(jti="known", exp=1)))
    rejected(internal.stubs(internal.issuer.token(jti="unknown", sub="alice", scp=["x"])))
    rejected(internal.stubs(""))

    counted = internal.counts.snapshot()
    assert counted["rpcs"] == {"GetVersion": {"accepted": 1, "rejected": 3}}
    assert counted["clients"]["batch"]["GetVersion"] == {"accepted": 1, "rejected": 1}
    assert counted["clients"]["alice"]["GetVersion"] == {"accepted": 0, "rejected": 1}
    assert counted["clients"]["anonymous"]["GetVersion"] == {"accepted": 0, "rejected": 1}
    assert counted["expired_tokens"] == 1


@pytest.mark.parametrize(
    ("fault", "by_internal", "by_external"),
    [
        ("expire_now", "Token is expired", "failed to validate token: Token is expired"),
        ("reject_rpc", "crypto/rsa: verification error", "failed to verify id token signature"),
    ],
)
def test_a_fault_spoils_as_many_good_calls_as_it_was_told_to(either, fault, by_internal, by_external):
    good, bad = either.stubs(), either.stubs("garbage")
    either.counts.reset()
    either.faults.put({fault: 2})

    rejected(bad)  # a call that is bad anyway, and one that needs no token, use up nothing
    good.auth.GetOAuth2Metadata(auth_pb2.OAuth2MetadataRequest())
    messages = [rejected(good), rejected(good)]

    reason = by_internal if either.posture.issuer == "internal" else by_external
    assert messages == [FRAME.format(reason)] * 2
    assert version(good)
    assert either.counts.snapshot()["expired_tokens"] == 0  # they had not really expired


def test_a_rejection_that_was_ordered_is_one_even_where_nothing_is_enforced(lenient):
    lenient.faults.put({"reject_rpc": 1})

    assert rejected(lenient.stubs()).startswith("token parse error")


class FixedKeys(Issuer):
    """An issuer whose tokens carry the times that a test gives them."""

    def keys(self) -> KeySet:
        return KeySet([self.rsa])


@pytest.mark.parametrize(
    ("claims", "refused"),
    [
        ({"exp": NOW + 1}, ""),
        ({"exp": NOW}, "Token is expired"),
        ({"exp": NOW - 1}, "Token is expired"),
        ({"exp": "soon"}, "Token is expired"),
        ({"iat": NOW}, ""),
        ({"iat": NOW + 1}, "Token used before issued"),
        ({"nbf": NOW}, ""),
        ({"nbf": NOW + 1}, "Token is not valid yet"),
    ],
)
def test_the_clock_has_no_leeway_and_counts_whole_seconds(claims, refused):
    issuer = FixedKeys()
    authentication = Authentication(
        issuer=issuer, posture=INTERNAL, counts=Counts(), faults=Faults(), now=lambda: NOW + 0.9
    )
    token = issuer.token(**({"iat": NOW - 10, "exp": NOW + 10} | claims))
    metadata = (("authorization", f"Bearer {token}"),)

    if not refused:
        assert authentication.caller("GetTask", metadata)
    else:
        with pytest.raises(Refusal) as caught:
            authentication.caller("GetTask", metadata)
        assert caught.value.message == FRAME.format(refused)


def test_a_method_that_does_not_exist_is_unimplemented_for_anyone(internal):
    call = internal.stubs("").channel.unary_unary("/flyteidl.service.AdminService/MakeCoffee")

    with pytest.raises(grpc.RpcError) as caught:
        call(b"", timeout=10)

    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_a_method_that_only_a_real_flyte_has_says_so(internal):
    with pytest.raises(grpc.RpcError) as caught:
        internal.stubs().admin.ListNamedEntities(common_pb2.NamedEntityListRequest())

    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
    assert caught.value.details() == "the sandbox does not offer ListNamedEntities; a real Flyte does"
