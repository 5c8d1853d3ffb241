"""Signing in with a browser: the authorization endpoint, its page, and the codes that it gives."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
from browsing import CALLBACK, VERIFIER, Browser, answer, asking, challenge, code, form, redeem, tags
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from running_provider import FORM, Running, basic, running, send

from flytekitplugins.authagent.sandbox import redirection

pytestmark = pytest.mark.timeout(60)

MANY = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

SCRIPT = "\"'><script>alert(1)</script>"


@pytest.fixture(scope="module", params=["internal", "external"])
def provider(request):
    with running(request.param) as it:
        yield it


@pytest.fixture(scope="module")
def external():
    with running("external") as it:
        yield it


@pytest.fixture
def web(external):
    """A confidential client with one exact address."""
    clients = external.issuer.clients
    known = clients["batch"]
    clients["web"] = replace(
        known,
        id="web",
        grant_types=frozenset({"authorization_code", "refresh_token"}),
        redirect_uris=("https://hub.example/callback",),
    )
    yield clients["web"]
    del clients["web"]


@pytest.mark.parametrize("user", ["alice", "bob"])
def test_somebody_signs_in(provider: Running, user):
    reply = Browser().decide(asking(provider), user)

    said = answer(reply)
    assert reply.headers["location"].startswith(f"{CALLBACK}?")
    assert said["state"] == "a state"
    assert said.get("iss") == (provider.issuer.issuer if provider.posture == "external" else None)
    token = redeem(provider, said["code"]).json()
    assert token.keys() == {"access_token", "token_type", "expires_in", "scope", "refresh_token"}
    claims = provider.read(token["access_token"]).claims
    assert (claims["sub"], claims["client_id"], claims["scp"]) == (user, "flytectl", ["all", "offline"])
    refreshed = provider.refresh(token["refresh_token"])
    assert provider.read(refreshed.json()["access_token"]).claims["sub"] == user


def test_without_offline_there_is_no_refresh_token(provider: Running):
    assert "refresh_token" not in redeem(provider, code(provider, scope="all")).json()


def test_the_other_word_for_offline_is_openid_connects(external: Running):
    assert "refresh_token" in redeem(external, code(external, scope="all offline_access")).json()


def test_who_asks_for_no_scope_gets_what_the_server_thinks_best(provider: Running):
    expected = {"internal": "", "external": "all"}[provider.posture]

    assert redeem(provider, code(provider, scope=None)).json()["scope"] == expected


def test_an_id_token_says_who_signed_in_and_for_whom(external: Running):
    token = redeem(external, code(external, "bob", scope="openid all offline", nonce="a nonce")).json()

    claims = external.read(token["id_token"]).claims
    assert claims["aud"] == claims["azp"] == "flytectl"
    assert (claims["sub"], claims["name"], claims["email"]) == ("bob", "Bob", "bob@sandbox.example")
    assert (claims["iss"], claims["nonce"]) == (external.issuer.issuer, "a nonce")
    assert claims["auth_time"] <= claims["iat"] < claims["exp"]
    assert claims["at_hash"]
    again = external.refresh(token["refresh_token"]).json()
    assert external.read(again["id_token"]).claims["sub"] == "bob"
    assert "nonce" not in external.read(again["id_token"]).claims


def test_an_id_token_is_no_access_token(external: Running):
    token = redeem(external, code(external, scope="openid all")).json()
    url = external.issuer.metadata()["userinfo_endpoint"]

    assert send("GET", url, headers={"Authorization": f"Bearer {token['access_token']}"}).status == 200
    assert send("GET", url, headers={"Authorization": f"Bearer {token['id_token']}"}).status == 401


@pytest.mark.parametrize(
    "where",
    [
        "http://localhost:53593/callback",
        "http://localhost/callback",
        "http://localhost:1/callback",
        "http://127.0.0.1:65535/callback",
        "http://[::1]:8080/callback",
    ],
)
def test_a_native_client_waits_on_any_port_of_loopback(provider: Running, where):
    reply = Browser().decide(asking(provider, redirect_uri=where))

    assert reply.headers["location"].startswith(f"{where}?code=")
    assert redeem(provider, answer(reply)["code"], redirect_uri=where).status == 200


def test_the_address_may_be_left_out_where_there_is_one(provider: Running):
    reply = Browser().decide(asking(provider, redirect_uri=None))

    assert reply.headers["location"].startswith("http://localhost:53593/callback?")
    assert redeem(provider, answer(reply)["code"], redirect_uri=None).status == 200


ELSEWHERE = [
    "http://evil.example/callback",
    "https://127.0.0.1:1/callback",
    "http://127.0.0.1:1/callback/",
    "http://127.0.0.1:1/callback?x=1",
    "http://127.0.0.1:1/callback#x",
    "http://127.0.0.1:1/other",
    "http://127.0.0.1:1/other/../callback",
    "http://127.0.0.1:1/Callback",
    "http://127.0.0.1:1",
    "http://127.0.0.1:0/callback",
    "http://127.0.0.1:65536/callback",
    "http://127.0.0.1:99999999999/callback",
    "http://127.0.0.1:x/callback",
    "http://127.0.0.1@evil.example/callback",
    "http://user@127.0.0.1/callback",
    "http://127.0.0.1.evil.example/callback",
    "http://127.0.0.2/callback",
    "http://0.0.0.0/callback",
    "http://localhost.evil.example/callback",
    "http://localhost\\.evil.example/callback",
    "http://127.0.0.1:1/callback\r\nSet-Cookie: a=b",
    "http://127.0.0.1:1/call\tback",
    "http://evil.example\\@127.0.0.1/callback",
    "http://[::1%25lo]/callback",
    "//127.0.0.1/callback",
    "javascript:alert(1)//127.0.0.1/callback",
    "data:text/html,x",
    "callback",
    " http://localhost:53593/callback",
    "http://localhost:53593/callback ",
    SCRIPT,
    "http://127.0.0.1:1/callback\u2028",
]


@pytest.mark.parametrize("where", ELSEWHERE, ids=repr)
def test_a_browser_is_sent_nowhere_else(provider: Running, where):
    for url in (asking(provider, redirect_uri=where), asking(provider, redirect_uri=where, scope="admin")):
        for reply in (Browser().get(url), Browser().post(url, {"user": "alice", "decision": "allow"})):
            assert reply.status == 400
            assert "location" not in reply.headers
            assert reply.headers["content-type"] == "text/html; charset=utf-8"
            assert b"evil" not in reply.body
            assert b"<script" not in reply.body


@MANY
@given(where=st.text(max_size=40) | st.from_regex(r"https?://(127\.0\.0\.1|localhost|\[::1\])[ -~]{0,20}"))
def test_only_a_loopback_address_with_the_right_path_is_allowed(where):
    if redirection.allowed("http://localhost:53593/callback", where):
        parts = urlsplit(where)
        assert parts.scheme == "http"
        assert parts.hostname in ("127.0.0.1", "::1", "localhost")
        assert parts.path == "/callback"
        assert not (parts.query or parts.fragment or parts.username)
        assert where.isascii()
        assert where.isprintable()


def test_another_clients_address_must_be_the_registered_one_letter_by_letter(external: Running, web):
    exact = "https://hub.example/callback"
    for where in (f"{exact}/", f"{exact}?a=b", "https://hub.example:443/callback", "https://hub.example/Callback"):
        assert Browser().get(asking(external, client_id="web", redirect_uri=where)).status == 400

    page = Browser().get(asking(external, client_id="web", redirect_uri=exact))
    assert page.status == 200
    assert "form-action 'self' https://hub.example;" in page.headers["content-security-policy"] + ";"


def test_a_confidential_client_redeems_its_code_with_its_secret(external: Running, web):
    where = "https://hub.example/callback"
    without = {"code_challenge": None, "code_challenge_method": None, "client_id": "web", "redirect_uri": where}
    proof = {"code": code(external, **without), "grant_type": "authorization_code", "redirect_uri": where}

    assert external.ask(proof | {"client_id": "web"}).status == 401
    assert external.ask(proof, basic("web", "wrong")).status == 401
    assert external.ask(proof, basic("web", web.secret.reveal())).status == 200


def test_a_code_without_a_challenge_takes_no_verifier(external: Running, web):
    """Else somebody could take the challenge out of a request and nobody would see (RFC 9700 section 4.8.2)."""
    where = "https://hub.example/callback"
    text = code(external, code_challenge=None, code_challenge_method=None, client_id="web", redirect_uri=where)
    fields = {"code": text, "grant_type": "authorization_code", "redirect_uri": where, "code_verifier": VERIFIER}

    assert external.ask(fields, basic("web", web.secret.reveal())).json()["error"] == "invalid_request"


REFUSED = {
    "plain": ({"code_challenge_method": "plain"}, "invalid_request"),
    "no method": ({"code_challenge_method": None}, "invalid_request"),
    "no challenge": ({"code_challenge": None}, "invalid_request"),
    "neither": ({"code_challenge": None, "code_challenge_method": None}, "invalid_request"),
    "short": ({"code_challenge": "abc"}, "invalid_request"),
    "no SHA-256": ({"code_challenge": "é" * 43}, "invalid_request"),
    "line end": ({"code_challenge": challenge() + "\n"}, "invalid_request"),
    "padded": ({"code_challenge": challenge() + "="}, "invalid_request"),
    "scope": ({"scope": "all admin"}, "invalid_scope"),
    "token": ({"response_type": "token"}, "unsupported_response_type"),
    "id_token": ({"response_type": "code id_token"}, "unsupported_response_type"),
    "no type": ({"response_type": None}, "invalid_request"),
    "script as type": ({"response_type": SCRIPT}, "unsupported_response_type"),
    "fragment": ({"response_mode": "fragment"}, "invalid_request"),
    "form_post": ({"response_mode": "form_post"}, "invalid_request"),
    "audience": ({"audience": "https://elsewhere.example"}, ("invalid_request", "invalid_target")),
    "silent": ({"prompt": "none"}, "login_required"),
    "request": ({"request": "x.y.z"}, "request_not_supported"),
    "request_uri": ({"request_uri": "https://evil.example"}, "request_uri_not_supported"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_request_that_cannot_be_granted_is_answered_to_its_client(provider: Running, case):
    changed, error = REFUSED[case]

    for reply in (Browser().get(asking(provider, **changed)), Browser().post(asking(provider, **changed), {})):
        said = answer(reply)
        assert said["error"] in ((error,) if isinstance(error, str) else error)
        assert said["state"] == "a state"
        assert "code" not in said
        assert reply.headers["location"].startswith(f"{CALLBACK}?")
        assert "alert" not in reply.headers["location"]


def test_no_is_an_answer(provider: Running):
    said = answer(Browser().decide(asking(provider), decision="deny"))

    assert (said["error"], said["state"]) == ("access_denied", "a state")
    assert "code" not in said


@pytest.mark.parametrize("client_id", ["nobody", "", None, SCRIPT, "é", "batch"])
def test_an_unknown_client_or_one_without_an_address_gets_a_page(provider: Running, client_id):
    reply = Browser().get(asking(provider, client_id=client_id, scope="admin"))

    assert reply.status == 400
    assert b"<script" not in reply.body
    assert "location" not in reply.headers


@pytest.mark.parametrize("name", ["client_id", "redirect_uri", "state", "scope", "code_challenge", "nonce", "x"])
def test_a_parameter_that_is_there_twice_is_refused_here(provider: Running, name):
    url = asking(provider, x="1", nonce="1") + f"&{name}=1"

    assert Browser().get(url).status == 400


@pytest.mark.parametrize("query", ["", "%ff=1", "a" * 9000, "&".join(f"f{n}=1" for n in range(100)), "client_id"])
def test_a_query_that_says_nothing_gets_a_page(provider: Running, query):
    assert Browser().get(f"{provider.issuer.authorization_endpoint}?{query}").status == 400


@pytest.mark.parametrize("state", ["é", "a&b=c", "\r\nSet-Cookie: x=y", SCRIPT, "x" * 5000, "%0d%0a", "🙂"])
def test_the_state_comes_back_as_it_was_sent(provider: Running, state):
    reply = Browser().decide(asking(provider, state=state))

    assert answer(reply)["state"] == state
    assert "set-cookie" not in reply.headers


def test_no_state_is_no_state(provider: Running):
    assert "state" not in answer(Browser().decide(asking(provider, state=None)))


def test_the_page_has_no_script_and_nobody_frames_it(provider: Running):
    page = Browser().get(asking(provider, state=SCRIPT, nonce=SCRIPT, login_hint=SCRIPT, ui_locales=SCRIPT))

    assert page.status == 200
    assert page.headers["x-frame-options"] == "DENY"
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "form-action 'self' http://127.0.0.1:45454" in policy
    assert page.headers["cache-control"] == "no-store"
    assert page.headers["x-content-type-options"] == "nosniff"
    assert "script" not in tags(page)
    assert b"alert" not in page.body


def test_a_policy_that_cannot_name_an_address_names_its_scheme(provider: Running):
    page = Browser().get(asking(provider, redirect_uri="http://[::1]:8080/callback"))

    assert page.headers["content-security-policy"].endswith("form-action 'self' http:")


def test_a_form_of_another_site_changes_nothing(provider: Running):
    url, victim, attacker = asking(provider), Browser(), Browser()
    theirs, own = form(attacker.get(url)), form(victim.get(url))
    yes = {"user": "alice", "decision": "allow"}
    other = asking(provider, redirect_uri="http://localhost:6666/callback")

    assert victim.post(url, yes).status == 400, "without what the page holds"
    assert victim.post(url, theirs | yes).status == 400, "with what another browser was shown"
    assert Browser().post(url, own | yes).status == 400, "without the cookie"
    assert victim.post(other, own | yes).status == 400, "with what another request was shown"
    assert victim.post(url, own | yes, Origin="http://evil.example").status == 400
    assert victim.post(url, own | yes, Origin="null").status == 400
    assert victim.post(url, {"proof": "é"} | yes).status == 400
    assert victim.post(url, own | yes).status == 303


def test_the_cookie_is_for_our_pages_alone(provider: Running):
    browser = Browser()
    given = browser.get(asking(provider)).headers["set-cookie"]
    proof = form(browser.get(asking(provider)))

    assert "HttpOnly" in given
    assert "SameSite=Lax" in given
    assert "set-cookie" not in browser.get(asking(provider)).headers, "several pages of one browser share it"
    assert form(browser.get(asking(provider))) == proof


@pytest.mark.parametrize("cookie", ["", "authagent-sandbox=", "authagent-sandbox=x", ";;;", "a b=c; =", "é", '"'])
def test_a_cookie_that_is_not_ours_is_replaced(provider: Running, cookie):
    reply = send("GET", asking(provider), headers={"Cookie": cookie.encode("utf-8").decode("latin-1")})

    assert reply.status == 200
    assert "set-cookie" in reply.headers


@pytest.mark.parametrize(
    "fields",
    [
        {"user": "nobody", "decision": "allow"},
        {"user": SCRIPT, "decision": "allow"},
        {"decision": "allow"},
        {"user": "alice"},
        {"user": "alice", "decision": "maybe"},
        {},
    ],
)
def test_a_form_that_does_not_say_who_decided_what_is_refused(provider: Running, fields):
    browser, url = Browser(), asking(provider)
    reply = browser.post(url, form(browser.get(url)) | fields)

    assert reply.status == 400
    assert b"<script" not in reply.body


def test_a_huge_form_is_refused(provider: Running):
    url = asking(provider)

    assert Browser().post(url, {"user": "a" * 70000}).status == 413
    assert Browser().post(url, {f"f{n}": "1" for n in range(100)}).status == 400


@MANY
@given(data=st.data())
def test_any_request_gets_a_page_or_a_redirect_to_its_client(provider: Running, data):
    names = st.sampled_from(["client_id", "redirect_uri", "scope", "state", "response_type", "nonce", "prompt"])
    changed = data.draw(st.dictionaries(names, st.text(max_size=20), max_size=3))

    reply = Browser().get(asking(provider, **changed))

    assert reply.status in (200, 303, 400)
    if reply.status == 303:
        assert reply.headers["location"].startswith((CALLBACK, "http://localhost:53593/callback"))


def test_a_code_is_good_for_once_and_takes_what_it_gave_with_it(external: Running):
    text = code(external)
    first = redeem(external, text).json()

    again = redeem(external, text)

    assert (again.status, again.json()["error"]) == (400, "invalid_grant")
    assert external.refresh(first["refresh_token"]).status == 400
    introspected = external.ask_at(
        "introspection_endpoint", {"token": first["access_token"]}, basic("ci", external.secret("ci"))
    )
    assert introspected.json() == {"active": False}


def test_of_many_who_use_one_code_at_once_at_most_one_gets_a_token_and_none_keeps_it(external: Running):
    text, barrier = code(external), threading.Barrier(8)

    def use(_: int):
        barrier.wait(5)
        return redeem(external, text)

    with ThreadPoolExecutor(8) as pool:
        replies = list(pool.map(use, range(8)))

    given_out = [reply.json() for reply in replies if reply.status == 200]
    assert len(given_out) == 1
    assert external.refresh(given_out[0]["refresh_token"]).status == 400


@pytest.mark.parametrize(
    ("changed", "error"),
    [
        ({"code_verifier": "w" * 43}, "invalid_grant"),
        ({"code_verifier": None}, "invalid_request"),
        ({"code_verifier": "short"}, "invalid_request"),
        ({"code_verifier": challenge()}, "invalid_grant"),
        ({"redirect_uri": "http://127.0.0.1:45455/callback"}, "invalid_grant"),
        ({"redirect_uri": None}, "invalid_grant"),
        ({"code": "x"}, "invalid_grant"),
        ({"code": None}, "invalid_request"),
        ({"client_id": None}, "invalid_client"),
    ],
    ids=repr,
)
def test_who_did_not_ask_for_a_code_cannot_use_it(provider: Running, changed, error):
    text = code(provider)

    reply = redeem(provider, text, **changed)

    assert reply.json()["error"] == error
    assert redeem(provider, text).status == 200, "an attempt of somebody else does not spend it"


def test_a_code_of_another_client_is_of_no_use_and_stays_good(external: Running, web):
    text = code(external)
    fields = {"code": text, "grant_type": "authorization_code", "redirect_uri": CALLBACK, "code_verifier": VERIFIER}
    first = redeem(external, text)
    stolen = external.ask(fields, basic("web", web.secret.reveal()))

    assert stolen.json()["error"] == "invalid_grant"
    assert external.refresh(first.json()["refresh_token"]).status == 200, "nor does it revoke what others have"


def test_a_code_lives_a_minute():
    now = [1_000_000.0]
    with running("external", now=lambda: now[0]) as provider:
        late, in_time = code(provider), code(provider)
        now[0] += 59
        assert redeem(provider, in_time).status == 200
        now[0] += 1
        assert redeem(provider, late).json()["error"] == "invalid_grant"


@pytest.mark.parametrize("method", ["PUT", "DELETE", "HEAD", "PATCH"])
def test_the_page_takes_no_other_method(provider: Running, method):
    reply = send(method, asking(provider))

    assert (reply.status, reply.headers["allow"]) == (405, "GET, POST")


def test_what_happened_is_counted():
    with running("external") as provider:
        redeem(provider, code(provider))
        redeem(provider, "x")
        Browser().decide(asking(provider), decision="deny")
        Browser().get(asking(provider, scope="admin"))
        Browser().get(asking(provider, client_id="nobody"))
        counted = provider.counts.snapshot()

    assert counted["mints"] == {"flytectl": 1}
    assert counted["refused_mints"] == {"flytectl": 1}
    assert (counted["sign_ins"], counted["denials"], counted["codes"]) == (
        {"flytectl": 1},
        {"flytectl": 1},
        {"flytectl": 1},
    )
    assert counted["refused_requests"] == {"flytectl": 1, "anonymous": 1}


def test_the_faults_of_the_token_endpoint_strike_codes_too(external: Running):
    text = code(external)
    external.faults.put({"token_status": {"value": 503, "count": 1}})

    assert redeem(external, text).status == 503
    assert redeem(external, text).status == 200


def test_no_secret_of_a_sign_in_reaches_a_log(caplog):
    caplog.set_level("DEBUG")
    with running("external") as provider:
        browser, url = Browser(), asking(provider, state="s3cr3t-state", scope="openid all offline")
        text = answer(browser.decide(url))["code"]
        token = redeem(provider, text).json()
        redeem(provider, text)
        kept = provider.issuer.authorization_codes.issue(
            "flytectl", "alice", "", redirect_uri=None, code_challenge=None, nonce=None, now=0
        )
        secrets = [text, kept.text, "s3cr3t-state", VERIFIER, browser.cookie, *form(browser.get(url)).values()]
        secrets += [token[name] for name in ("access_token", "refresh_token", "id_token")]
        shown = caplog.text + repr(kept)

    assert "Issue token" in caplog.text
    for secret in secrets:
        assert secret not in shown
        assert secret.split(".")[-1] not in shown


def test_a_wrong_content_type_is_no_form(provider: Running):
    browser, url = Browser(), asking(provider)
    fields = form(browser.get(url)) | {"user": "alice", "decision": "allow"}
    reply = send("POST", url, urlencode(fields), {"Content-Type": "text/plain", "Cookie": browser.cookie})

    assert reply.status == 400
    assert FORM not in reply.headers["content-type"]
    assert parse_qs(urlsplit(url).query)["state"] == ["a state"]
