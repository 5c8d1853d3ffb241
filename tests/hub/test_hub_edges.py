"""The edges of the hub: what it refuses to be configured as, what it says at its address, what it takes for good."""

from __future__ import annotations

import asyncio
import copy
import json
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote, urlencode

import pytest
import running_hub
import yaml
from consenting import title
from postgres import Postgres
from running_hub import Hub, World, wait_for
from small_issuer import EC, signed
from test_command_line import authagent

from flytekitplugins.authagent import yaml_file
from flytekitplugins.authagent.agent.asked import Asked
from flytekitplugins.authagent.agent.delegation import Delegated
from flytekitplugins.authagent.agent.file import AgentFile, Flyte
from flytekitplugins.authagent.agent.forward import Forward
from flytekitplugins.authagent.agent.peer import Peer
from flytekitplugins.authagent.agent.refusal import Refusal
from flytekitplugins.authagent.agent.rule import Rule
from flytekitplugins.authagent.agent.upstream import LONGEST_TIMEOUT, HubSpec
from flytekitplugins.authagent.agent.workload import Pod, Workload
from flytekitplugins.authagent.credential import Secret, from_token
from flytekitplugins.authagent.errors import ConfigError, ProviderError, ProviderUnavailable
from flytekitplugins.authagent.hub import address
from flytekitplugins.authagent.hub.consent import Consent, Minted
from flytekitplugins.authagent.hub.database import LOCK_SECONDS
from flytekitplugins.authagent.hub.flyte import Executions
from flytekitplugins.authagent.oauth import discovery, token_exchange
from flytekitplugins.authagent.oauth.discovery import Metadata
from flytekitplugins.authagent.oauth.message import Request, Response
from flytekitplugins.authagent.oauth.token_exchange import ACCESS_TOKEN
from flytekitplugins.authagent.oauth.token_response import Granted
from flytekitplugins.authagent.sandbox.exchange import Answer, json_answer
from flytekitplugins.authagent.sandbox.loopback import LoopbackServer

FLYTE, ISSUER, SECRET = "dns:///flyte.example.com", "https://idp.example.com", "/etc/secrets/hub"


def content(**changed: Any) -> dict[str, Any]:
    """An `agent.yaml` with a hub; `upstream`, `people` and `hub` complete what stands there, the rest replaces keys."""
    service = {"kind": "client_credentials", "issuer": ISSUER, "client_id": "s", "client_secret_file": SECRET}
    grants = service | {"kind": "grant", "consent": "exchange", "client_id": "h", "scopes": ["all"]}
    usual: dict[str, Any] = {
        "listen": "http://127.0.0.1:8443",
        "attestor": "kubernetes",
        "flyte": {"endpoint": FLYTE},
        "hub": {
            "url": "https://hub.example.com",
            "people": {"issuer": ISSUER, "audience": "authagent-hub"} | changed.pop("people", {}),
            "store": "memory",
            "keys_env": "KEYS",
            "ask_flyte_as": "service",
        }
        | changed.pop("hub", {}),
        "upstreams": {"service": service, "people": grants | changed.pop("upstream", {})},
        "rules": [{"name": "all", "who": {"namespace": "*"}, "give": {"upstream": "people", "scopes": ["all"]}}],
    }
    return usual | changed


def loaded(**changed: Any) -> AgentFile:
    return yaml_file.parse(yaml.safe_dump(content(**changed)).encode(), AgentFile, name="hub")


# What it is configured as


@pytest.mark.parametrize(
    "flyte",
    [
        {"endpoint": FLYTE, "insecure": True},
        {"endpoint": "flyte.example.com:80", "insecure": True},
        {"endpoint": "http://10.0.0.7:8089", "insecure": True},
    ],
)
def test_its_own_token_is_not_sent_to_a_flyte_in_plaintext(
    flyte: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AUTHAGENT_ALLOW_PLAINTEXT", raising=False)
    with pytest.raises(ConfigError, match=r"in plaintext, where anybody.*insecure: false.*AUTHAGENT_ALLOW_PLAINTEXT="):
        loaded(flyte=flyte)
    # Whoever makes one of something else than a file is refused as well, before anything is sent.
    with pytest.raises(ConfigError, match="in plaintext"):
        Executions(Flyte.model_validate(flyte), lambda: pytest.fail("a token was obtained"))


@pytest.mark.parametrize(
    ("flyte", "allowed"),
    [
        ({"endpoint": FLYTE}, ""),
        ({"endpoint": "localhost:30080", "insecure": True}, ""),
        ({"endpoint": "unix:/run/flyte.sock", "insecure": True}, ""),
        ({"endpoint": "flyte.example.com:80", "insecure": True}, "other, flyte.example.com"),
        ({"endpoint": "flyte.example.com:80", "insecure": True}, "flyte.example.com:80"),
    ],
)
def test_plaintext_is_for_this_machine_and_for_what_the_operator_names(
    flyte: dict[str, Any], allowed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AUTHAGENT_ALLOW_PLAINTEXT", allowed)
    assert loaded(flyte=flyte).flyte
    Executions(Flyte.model_validate(flyte), lambda: pytest.fail("a token was obtained")).close()


def test_another_port_than_the_one_that_may_be_plaintext_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTHAGENT_ALLOW_PLAINTEXT", "flyte.example.com:80")
    with pytest.raises(ConfigError, match="in plaintext"):
        loaded(flyte={"endpoint": "flyte.example.com:81", "insecure": True})


@pytest.mark.parametrize("seconds", [20.5, 120])
def test_a_provider_may_not_take_longer_than_the_lock_on_a_grant_lasts(seconds: float) -> None:
    """An exchange, and the resolver's own time beside it, must fit; the second replica would spend the token again."""
    with pytest.raises(ConfigError, match=rf"timeout: {seconds:g} s is too long, {LONGEST_TIMEOUT:g} s is the most"):
        loaded(upstream={"timeout": seconds})
    assert loaded(upstream={"timeout": LONGEST_TIMEOUT}).grants
    assert 2 * LONGEST_TIMEOUT < LOCK_SECONDS


@pytest.mark.parametrize(
    ("flyte", "issuer"),
    [
        ("dns:///idp.example.com", ISSUER),
        ("idp.example.com:443", ISSUER),
        ("dns:///idp.example.com", f"{ISSUER}:443/"),
        ("dns:///idp.example.com:8443", f"{ISSUER}:8443"),
        ("localhost:30080", "http://127.0.0.1:30080"),
    ],
)
def test_flyteadmins_own_server_is_no_identity_provider_for_a_hub(flyte: str, issuer: str) -> None:
    for changed in (
        {"people": {"issuer": issuer}, "upstream": {"issuer": issuer}},
        {"people": {"issuer": issuer}, "upstream": {"issuer": None, "token_endpoint": "https://another.example.com/t"}},
        {"upstream": {"issuer": None, "token_endpoint": f"{issuer.rstrip('/')}/oauth2/token"}},
    ):
        with pytest.raises(ConfigError, match="cannot exchange tokens, knows no other audience and cannot revoke"):
            loaded(flyte={"endpoint": flyte}, **copy.deepcopy(changed))


@pytest.mark.parametrize(
    ("flyte", "issuer"),
    [
        (FLYTE, ISSUER),
        ("idp.example.com:8089", ISSUER),
        ("idp.example.com", f"{ISSUER}:8443"),
        ("localhost:30080", "http://127.0.0.1:30081"),
        ("localhost:30080", "http://127.0.0.1"),
        ("unix:/run/flyte.sock", "http://127.0.0.1"),
        ("dns:///idp.example.com", f"{ISSUER}/realms/flyte"),  # behind one entrance
    ],
)
def test_another_server_beside_flyte_is_an_identity_provider_for_a_hub(flyte: str, issuer: str) -> None:
    assert loaded(flyte={"endpoint": flyte}, people={"issuer": issuer}, upstream={"issuer": issuer}).grants


def test_an_issuer_that_is_no_url_is_not_repeated() -> None:
    with pytest.raises(ConfigError) as refused:
        loaded(upstream={"issuer": "https://idp.example.com:s3cret"})
    assert "s3cret" not in str(refused.value)


# Where it keeps grants

HERE = "postgresql://hub:s3cret@"
LIBPQ = ("PGHOST", "PGHOSTADDR", "PGSERVICE", "PGSSLMODE")


@pytest.fixture
def libpq(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """An environment in which libpq adds nothing to an address."""
    for name in LIBPQ:
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


@pytest.mark.parametrize(
    "mode", ["", "disable", "allow", "prefer", "verify_full", "VERIFY-FULL", "require&sslmode=disable"]
)
@pytest.mark.parametrize(
    "host", ["db.example.com/hub?", "10.0.0.7:5432/hub?", "[2001:db8::1]/hub?", "/hub?host=db.example.com&"]
)
def test_a_database_on_another_machine_is_not_spoken_to_in_plaintext(
    host: str, mode: str, libpq: pytest.MonkeyPatch
) -> None:
    """libpq's own `prefer` takes plaintext from whoever stands between and says that there is no TLS."""
    libpq.setenv("PGSSLMODE", "verify-full")  # the environment of one process does not say it for the others
    with pytest.raises(ConfigError, match="lets the connection be plaintext") as refused:
        address.address(f"{HERE}{host}" + (f"sslmode={mode}" if mode else ""))
    assert "sslmode=verify-full" in str(refused.value)
    assert "s3cret" not in str(refused.value)


# One line for each way to write a password where it is not taken for one. `s3cret` is the password, or its end.
MISPLACED = (
    "postgresql://hub:p@s3cret@db.example.com/hub?sslmode=require",
    "postgresql://hub:p@x/s3cret@db.example.com/hub?sslmode=require",
    "postgresql://hub:p/s3cret@localhost/hub",
    "postgresql://hub:p?s3cret@localhost/hub",
    "postgresql://hub:p%s3cret@localhost/hub",
    "postgresql://hub@localhost/hub?password=s3cret",
    "postgresql://hub@localhost/hub?pasword=s3cret",
    "postgresql://hub@localhost/hub?Password=s3cret",
    "postgresql://hub@localhost/hub?options=s3cret",
    "postgresql://hub@localhost/hub?sslmode=prefer&sslpassword=s3cret",
)


@pytest.mark.parametrize("text", MISPLACED)
def test_a_password_in_a_wrong_place_is_not_shown(text: str, libpq: pytest.MonkeyPatch) -> None:
    try:
        shown = repr(address.address(text))
    except ConfigError as refused:
        shown = f"{refused} {refused.hint}"
    assert "s3cret" not in shown


@pytest.mark.parametrize(
    ("environ", "where"),
    [
        ({"PGHOST": "db.example.com"}, "/hub"),
        ({"PGHOSTADDR": "10.0.0.7"}, "/hub"),
        ({"PGHOSTADDR": "10.0.0.7"}, "localhost/hub"),
        ({"PGSERVICE": "hub"}, "localhost/hub"),
        ({}, "/hub?service=hub"),
        ({}, "localhost/hub?hostaddr=10.0.0.7"),
        ({}, "localhost/hub?host=db.example.com"),
        ({}, "/hub?host=localhost&host=db.example.com:5433"),
        ({}, "/hub?host=/run/postgresql,db.example.com"),
    ],
)
def test_what_libpq_adds_to_an_address_counts(environ: dict[str, str], where: str, libpq: pytest.MonkeyPatch) -> None:
    for name, value in environ.items():
        libpq.setenv(name, value)
    with pytest.raises(ConfigError, match="lets the connection be plaintext"):
        address.address(HERE + where)


@pytest.mark.parametrize(
    "where",
    [
        "localhost/hub",
        "127.0.0.1:5432/hub?sslmode=disable",
        "[::1]:5432/hub",
        "/hub",
        "/hub?host=/run/postgresql",
        "/hub?host=localhost:5432&host=127.0.0.1:5433",
        "db.example.com/hub?sslmode=verify-full&sslrootcert=system",
        "db.example.com/hub?sslmode=verify-ca&sslrootcert=/etc/ca.pem",
        "db.example.com/hub?sslmode=require",
    ],
)
def test_a_database_on_this_machine_needs_no_tls_and_another_is_taken_with_it(
    where: str, libpq: pytest.MonkeyPatch
) -> None:
    assert address.address(HERE + where).is_postgresql


@pytest.mark.parametrize(
    ("where", "what"),
    [
        ("db.example.com/hub?sslmode=verify-full", ""),
        ("localhost/hub", ""),
        ("db.example.com/hub?sslmode=verify-ca", "verify-ca does not check whose certificate it is"),
        ("db.example.com/hub?sslmode=require", "require does not check the server's certificate"),
    ],
)
def test_operators_are_told_what_their_way_to_the_database_does_not_check(
    tmp_path: Path, where: str, what: str, libpq: pytest.MonkeyPatch
) -> None:
    assert what in address.address(HERE + where).weakness
    file = tmp_path / "agent.yaml"
    file.write_text(yaml.safe_dump(content(hub={"store": HERE + where})))
    done = authagent("policy", "check", "--rules-only", str(file))
    assert done.returncode == 0
    assert (f"note: the store: sslmode={what}" if what else "") in done.stderr
    assert ("note: the store" in done.stderr) is bool(what)
    assert "s3cret" not in done.stdout + done.stderr


@pytest.mark.parametrize("command", [("serve", "--check", "--config"), ("policy", "check")])
@pytest.mark.parametrize("in_a_file", [False, True])
def test_the_commands_for_operators_say_it(tmp_path: Path, command: tuple[str, ...], in_a_file: bool) -> None:
    tmp_path.chmod(0o700)
    store = tmp_path / "store"
    store.write_text(f"{HERE}db.example.com/hub\n")
    store.chmod(0o600)
    for name, text in {"keys": running_hub.KEY, "secret": "s3cr3t"}.items():
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o600)
    changed = content(hub={"store_file": str(store)} if in_a_file else {"store": store.read_text().strip()})
    changed["hub"]["keys_file"] = str(tmp_path / "keys")
    del changed["hub"]["keys_env"]
    for upstream in changed["upstreams"].values():
        upstream["client_secret_file"] = str(tmp_path / "secret")
    if in_a_file:
        del changed["hub"]["store"]
    file = tmp_path / "agent.yaml"
    file.write_text(yaml.safe_dump(changed))
    file.chmod(0o600)
    done = authagent(*command, str(file))
    assert (done.returncode, "sslmode=verify-full" in done.stderr) == (2, True), done.stderr
    assert "s3cret" not in done.stdout + done.stderr
    store.write_text(f"{HERE}db.example.com/hub?sslmode=verify-full\n")
    if not in_a_file:
        changed["hub"]["store"] = store.read_text().strip()
        file.write_text(yaml.safe_dump(changed))
    assert authagent(*command, str(file)).returncode == 0


# What it takes for what a person consented to


class Provider:
    """An `OAuthClient` whose identity provider answers with `token`, and says no more of it than it must."""

    client_id, in_pod = "h", False

    def __init__(self, token: str, **answer: Any) -> None:
        self.answer = {"access_token": token, "token_type": "Bearer", "expires_in": 300, "refresh_token": "r"} | answer
        self.metadata = Metadata(issuer=ISSUER, token_endpoint=f"{ISSUER}/token")
        self.sent: list[Request] = []
        self.clock = time.time

    def authentication(self) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        return (), ()

    def send(self, request: Request) -> Response:
        self.sent.append(request)
        return Response(request.url, 200, {"content-type": "application/json"}, json.dumps(self.answer).encode())


def minted(provider: Provider, scopes: tuple[str, ...] = ("all",), **upstream: Any) -> list[Minted]:
    """What an exchange and a refresh make of an answer."""
    consent = Consent(loaded(upstream=upstream | {"scopes": ["all", *scopes]}).grants, provider)  # type: ignore[arg-type]
    grant: Any = SimpleNamespace(subject="alice")
    return [consent.exchange(Secret("t"), "alice", scopes), consent.mint(grant, Secret("r"), scopes)]


def jwt(**said: Any) -> str:
    return signed({"sub": "alice", "iss": ISSUER} | said, EC)


@pytest.mark.parametrize(
    "said",
    [
        {"scp": ["all", "admin"]},
        {"scp": "all admin"},
        {"scope": "all admin"},
        {"scope": ["admin"]},
        {"scp": ["all"], "scope": "all admin"},
        {"scp": ["all admin"]},
        {"scp": ["api://flyte/admin"]},
    ],
)
def test_a_token_with_more_scopes_than_were_consented_to_is_given_to_nobody(said: dict[str, Any]) -> None:
    """The answer leaves `scope` out, which means that it is what was asked for (RFC 6749 section 5.1)."""
    for found in minted(Provider(jwt(**said))):
        assert found.tokens.accesses == ()
        assert "gave more scopes than were asked for" in str(found.refused)
        assert "admin" in str(found.refused)


@pytest.mark.parametrize(
    ("said", "scopes"),
    [
        ({}, ("all",)),
        ({"scp": ["all"]}, ("all",)),
        ({"scp": []}, ("all",)),
        ({"scope": "openid all profile email offline_access"}, ("all",)),
        ({"scp": "all"}, ("api://flyte/all",)),
        ({"scp": ["read"]}, ("all", "read")),
        ({"scp": 7, "scope": None}, ("all",)),
    ],
)
def test_a_token_with_what_was_consented_to_or_less_is_given(said: dict[str, Any], scopes: tuple[str, ...]) -> None:
    for found in minted(Provider(jwt(**said)), scopes):
        assert found.refused is None
        assert found.tokens.accesses


def test_the_token_of_a_sign_in_is_held_to_the_same_scopes() -> None:
    consent = Consent(loaded().grants, Provider(""))  # type: ignore[arg-type]
    for said, is_good in (({"scp": ["all"]}, True), ({"scp": ["all", "admin"]}, False)):
        granted = Granted(from_token(Secret(jwt(**said)), provider="grant"), Secret("r"))
        found = consent.tokens_of(granted, "alice", ())
        assert (found.refused is None, found.tokens.accesses) == (is_good, ())
        assert found.tokens.refresh  # it is spent, or kept, but known


AUDIENCE = "https://flyte.example.com"


@pytest.mark.parametrize("aud", ["account", ["account"], "https://flyte.example.com.evil", [], 7, f"{AUDIENCE}/x"])
@pytest.mark.parametrize("named", ["audience", "resource"])
def test_a_token_for_another_audience_is_given_to_nobody(aud: Any, named: str) -> None:
    for found in minted(Provider(jwt(aud=aud)), **{named: AUDIENCE}):
        assert found.tokens.accesses == ()
        assert f"a token that is not for {AUDIENCE}" in str(found.refused)


@pytest.mark.parametrize(
    ("said", "upstream"),
    [
        ({"aud": AUDIENCE}, {"audience": AUDIENCE}),
        ({"aud": ["account", AUDIENCE]}, {"audience": AUDIENCE}),
        ({"aud": [AUDIENCE]}, {"audience": "flyte", "resource": AUDIENCE}),
        ({"aud": "flyte"}, {"audience": "flyte", "resource": AUDIENCE}),
        ({"aud": "anything"}, {}),
        ({}, {"audience": AUDIENCE}),
    ],
)
def test_a_token_for_the_audience_is_given_whatever_stands_beside_it(
    said: dict[str, Any], upstream: dict[str, Any]
) -> None:
    for found in minted(Provider(jwt(**said)), **upstream):
        assert found.refused is None
        assert found.tokens.accesses


def test_a_provider_that_says_that_it_does_not_exchange_is_not_sent_the_persons_token() -> None:
    provider = Provider(jwt())
    consent = Consent(loaded().grants, provider)  # type: ignore[arg-type]
    document = {"issuer": ISSUER, "token_endpoint": f"{ISSUER}/token", "grant_types_supported": ["refresh_token", 7]}
    provider.metadata = discovery.from_document(document)
    with pytest.raises(ProviderError, match=r"says that it exchanges no tokens.*consent: page"):
        consent.exchange(Secret("t"), "alice", ())
    assert not provider.sent
    provider.metadata = discovery.from_document(document | {"grant_types_supported": [token_exchange.GRANT]})
    assert consent.exchange(Secret("t"), "alice", ()).tokens.accesses


# What it says at its address


def test_who_discovers_it_over_the_network_is_not_sent_to_the_socket(hub: Hub) -> None:
    """RFC 8414 section 3.3: a client has to refuse another issuer, or it shows its pod's token elsewhere."""
    path = "/.well-known/oauth-authorization-server"
    found = discovery.read(hub.url, Response(hub.url + path, 200, {}, hub.get(path).body))
    assert (found.issuer, found.token_endpoint) == (hub.url, f"{hub.url}/token")
    on_socket = hub.on_socket(path).json()
    assert (on_socket["issuer"], on_socket["token_endpoint"]) == ("http://agent", "http://agent/token")


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.peer)])
def with_page(request: pytest.FixtureRequest, world: World) -> Iterator[Hub]:
    """One where people consent on a page."""
    store = {"store": request.getfixturevalue("postgres").new_database()} if request.param == "postgresql" else {}
    with running_hub.running(world, upstream={"consent": "page"}, hub=store) as made:
        yield made


def test_what_no_grant_can_be_called_is_not_looked_for(with_page: Hub) -> None:
    """PostgreSQL takes no NUL: that was the identity provider's fault, and a line of the log for each request."""
    hub, alice = with_page, with_page.world.token("alice")
    for name in ("a\0b", "\0", "a/b", "a b", "x" * 129, "\u00e9", "a\nb", "a.b"):
        said = [
            hub.revoke(alice, id=name),
            hub.revoke(alice, execution=name),
            hub.deposit(alice, f"p:d:{name}", scope=f"all {name}"),
            hub.get(f"/grants/{quote(name)}", alice),
        ]
        assert {reply.status for reply in said} <= {400, 404}, [(reply.status, reply.body) for reply in said]
        before = hub.log.read_text()
        for path in (f"/consent/callback?{urlencode({'state': name, 'code': 'x'})}", f"/consent/{quote(name)}"):
            for _ in range(3):
                reply = hub.get(path)
                assert (reply.status, title(reply)) == (404, "Nothing to allow here")
        assert hub.log.read_text() == before


@pytest.mark.peer
def test_a_stranger_does_not_fill_the_log_while_the_database_is_away(world: World, postgres: Postgres) -> None:
    store = {"store": postgres.new_database()}
    with running_hub.running(world, upstream={"consent": "page"}, hub=store) as hub:
        postgres.stop()
        try:
            for number in range(10):
                for path in (f"/consent/callback?state=made-up-{number}.x&code=x", f"/consent/made-up-{number}"):
                    assert hub.get(path).status == 503
        finally:
            postgres.start()
        assert "a consent" not in hub.log.read_text()
        wait_for(lambda: hub.get("/consent/made-up").status == 404)


# What a node's agent does with what it answers

GONE = {"error": "unauthorized_client", "error_description": "your person must consent"}


@pytest.mark.parametrize(
    "answer", [json_answer(429, {}), json_answer(503, {}), json_answer(500, {}), json_answer(400, {}), None]
)
def test_a_pods_own_token_stands_in_where_the_hub_says_nothing_of_the_grant(answer: Answer | None) -> None:
    """It goes on until its own end, and no longer than until the hub says that there is no grant any more."""
    now, answers = [time.time()], [answer]
    token = {"access_token": "t0ken", "token_type": "Bearer", "expires_in": 300, "issued_token_type": ACCESS_TOKEN}
    given = json_answer(200, token)
    hub = LoopbackServer("hub", lambda _: answers[0])
    hub.start()
    forward = Forward({"hub": HubSpec(url=hub.url)}, now=lambda: now[0])
    rule = Rule.model_validate({"name": "all", "who": {"namespace": "*"}, "give": {"upstream": "hub"}})

    async def ask(uid: str = "a") -> str:
        workload = Workload(Peer(0, 0, 0), Pod("p-d", "default", "pod", uid))
        found = await forward.token(workload, Asked(), rule, Secret("a-pods-own"))
        assert isinstance(found, Delegated)
        return found.credential.token.reveal()

    async def story() -> None:
        with pytest.raises(ProviderUnavailable):
            await ask()
        answers[0] = given
        assert await ask() == "t0ken"
        answers[0] = answer
        assert await ask() == "t0ken"
        with pytest.raises(ProviderUnavailable):
            await ask("another pod")
        now[0] += 301
        with pytest.raises(ProviderUnavailable):
            await ask()
        now[0] -= 301
        answers[0] = json_answer(400, GONE)
        with pytest.raises(Refusal):
            await ask()
        answers[0] = answer
        with pytest.raises(ProviderUnavailable):
            await ask()

    try:
        asyncio.run(story())
    finally:
        forward.close()
        hub.stop()
