"""Which browser a form, or a sign-in, belongs to."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flytekitplugins.authagent.errors import ConfigError
from flytekitplugins.authagent.hub.browsers import HOST_COOKIE, LOOPBACK_COOKIE, Browsers, origin

KEY = b"k" * 32
HERE = "https://hub.example.com"
GRANT, OTHER_GRANT = "grant-1", "grant-2"


@pytest.fixture
def browsers() -> Browsers:
    return Browsers(KEY, secure=True, origin=HERE)


def visit(browsers: Browsers, what: str = GRANT) -> tuple[str, str]:
    """A browser that comes for the first time: the cookie that it keeps, and the proof in its page."""
    proof, set_cookie = browsers.invite(None, what)
    assert set_cookie is not None
    return set_cookie.partition(";")[0], proof


def test_a_form_comes_back_from_the_browser_that_it_was_made_for(browsers: Browsers) -> None:
    cookie, proof = visit(browsers)

    assert browsers.invited(cookie, HERE, GRANT, proof)
    assert browsers.invited(cookie, HERE, GRANT, proof, fetch_site="same-origin")
    assert browsers.invited(cookie, None, GRANT, proof), "not every client says where it comes from"


def test_a_browser_keeps_its_cookie(browsers: Browsers) -> None:
    cookie, proof = visit(browsers)

    assert browsers.invite(cookie, GRANT) == (proof, None)
    assert browsers.invite(cookie, OTHER_GRANT)[0] != proof


def test_all_replicas_accept_each_others_pages_and_no_other_hub_does(browsers: Browsers) -> None:
    cookie, proof = visit(browsers)

    assert Browsers(KEY, secure=True, origin=HERE).invited(cookie, HERE, GRANT, proof)
    assert not Browsers(b"o" * 32, secure=True, origin=HERE).invited(cookie, HERE, GRANT, proof)


def test_the_cookie_is_for_this_host_alone_and_for_no_script(browsers: Browsers) -> None:
    set_cookie = browsers.invite(None, GRANT)[1]
    assert set_cookie is not None

    pair, *attributes = set_cookie.split("; ")
    assert pair.startswith(f"{HOST_COOKIE}=")
    assert sorted(attributes) == ["HttpOnly", "Path=/", "SameSite=Lax", "Secure"]


def test_on_loopback_the_cookie_does_without_https() -> None:
    set_cookie = Browsers(KEY, secure=False, origin="http://127.0.0.1:8443").invite(None, GRANT)[1]
    assert set_cookie is not None

    pair, *attributes = set_cookie.split("; ")
    assert pair.startswith(f"{LOOPBACK_COOKIE}=")
    assert sorted(attributes) == ["HttpOnly", "Path=/", "SameSite=Lax"]


def test_another_browsers_proof_is_refused(browsers: Browsers) -> None:
    (cookie, proof), (others_cookie, others_proof) = visit(browsers), visit(browsers)

    assert cookie != others_cookie
    assert not browsers.invited(cookie, HERE, GRANT, others_proof)
    assert not browsers.invited(others_cookie, HERE, GRANT, proof)


def test_the_proof_for_another_grant_is_refused(browsers: Browsers) -> None:
    cookie, proof = visit(browsers, OTHER_GRANT)

    assert not browsers.invited(cookie, HERE, GRANT, proof)


@pytest.mark.parametrize("proof", ["", "0" * 64, "f\u00fcr alle", "\ud800", "x" * 10_000])
def test_what_is_no_proof_is_refused(browsers: Browsers, proof: str) -> None:
    assert not browsers.invited(visit(browsers)[0], HERE, GRANT, proof)


@pytest.mark.parametrize(
    "wrong",
    [
        None,
        "",
        "null",
        "https://hub.example.com:8443",
        "http://hub.example.com",
        "https://evil.hub.example.com",
        "https://hub.example.com.evil.test",
    ],
)
def test_a_form_from_another_origin_is_refused(browsers: Browsers, wrong: str | None) -> None:
    cookie, proof = visit(browsers)

    assert browsers.invited(cookie, wrong, GRANT, proof) == (wrong is None)


@pytest.mark.parametrize(("site", "good"), [("none", True), ("cross-site", False), ("same-site", False), ("", False)])
def test_a_form_from_another_site_is_refused_even_without_an_origin(browsers: Browsers, site: str, good: bool) -> None:
    cookie, proof = visit(browsers)

    assert browsers.invited(cookie, None, GRANT, proof, fetch_site=site) == good


def test_ours_is_found_among_the_cookies_of_whoever_else_is_on_the_host(browsers: Browsers) -> None:
    cookie, proof = visit(browsers)
    header = f'broken; ="; a b=c; theme="dark;{cookie};{LOOPBACK_COOKIE}=x; empty='

    assert browsers.invited(header, HERE, GRANT, proof)
    assert browsers.invite(header, GRANT) == (proof, None)


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "; ;;",
        HOST_COOKIE,
        f"{HOST_COOKIE}=",
        f"{HOST_COOKIE}=short",
        f"{HOST_COOKIE}={'a' * 44}",
        f'{HOST_COOKIE}="{"a" * 43}"',
        f"{HOST_COOKIE}={'a' * 42}\u00e9",
        f"{HOST_COOKIE}={'a' * 43}\x00",
        f"{HOST_COOKIE.lower()}={'a' * 43}",
        f"{LOOPBACK_COOKIE}={'a' * 43}",
    ],
)
def test_a_browser_without_a_good_cookie_is_given_one_and_is_not_believed(
    browsers: Browsers, header: str | None
) -> None:
    proof, set_cookie = browsers.invite(header, GRANT)

    assert set_cookie is not None
    assert not browsers.invited(header, HERE, GRANT, proof)
    assert browsers.binding(header, GRANT) is None


def test_of_two_cookies_none_is_believed(browsers: Browsers) -> None:
    (cookie, proof), (planted, planted_proof) = visit(browsers), visit(browsers)

    for header in (f"{cookie}; {planted}", f"{planted}; {cookie}", f"{cookie}; {cookie}", f"{HOST_COOKIE}=; {cookie}"):
        assert not browsers.invited(header, HERE, GRANT, proof)
        assert not browsers.invited(header, HERE, GRANT, planted_proof)


@given(header=st.text(max_size=200), what=st.text(max_size=40), proof=st.text(max_size=80))
def test_whatever_is_sent_is_an_answer_and_never_an_error(header: str, what: str, proof: str) -> None:
    browsers = Browsers(KEY, secure=True, origin=HERE)

    assert not browsers.invited(header, HERE, what, proof)
    assert not browsers.bound(header, what, proof)
    assert len(browsers.invite(header, what)[0]) == 64


def test_a_sign_in_ends_in_the_browser_that_began_it(browsers: Browsers) -> None:
    (cookie, _), (others_cookie, _) = visit(browsers), visit(browsers)
    binding = browsers.binding(cookie, GRANT)
    assert binding is not None

    assert browsers.bound(cookie, GRANT, binding)
    assert not browsers.bound(others_cookie, GRANT, binding), "a state that was swapped"
    assert not browsers.bound(cookie, OTHER_GRANT, binding)
    assert not browsers.bound(None, GRANT, binding)
    assert not browsers.bound(cookie, GRANT, "")


def test_the_proof_of_a_page_is_not_the_binding_of_a_sign_in(browsers: Browsers) -> None:
    cookie, proof = visit(browsers)
    binding = browsers.binding(cookie, GRANT)
    assert binding is not None

    assert not browsers.bound(cookie, GRANT, proof)
    assert not browsers.invited(cookie, HERE, GRANT, binding)


def test_nothing_that_is_shown_or_kept_holds_the_cookie(browsers: Browsers) -> None:
    cookie, proof = visit(browsers)
    value = cookie.partition("=")[2]

    assert value not in f"{proof} {browsers.binding(cookie, GRANT)} {browsers!r}"


@pytest.mark.parametrize(
    ("url", "found"),
    [
        ("https://IDP.example.com/realms/a?b#c", "https://idp.example.com"),
        ("https://idp.example.com:443/", "https://idp.example.com"),
        ("http://127.0.0.1:80", "http://127.0.0.1"),
        ("http://127.0.0.1:8080/authorize", "http://127.0.0.1:8080"),
        ("https://[::1]:8443/x", "https://[::1]:8443"),
        ("https://idp.example.com", "https://idp.example.com"),
    ],
)
def test_an_origin_is_written_as_browsers_write_it(url: str, found: str) -> None:
    assert origin(url) == found == origin(found)


@pytest.mark.parametrize(
    "url",
    ["", "idp.example.com", "ftp://a", "javascript:alert(1)", "https://", "https://a:b", "https://a;script-src *",
     "https://a 'unsafe-inline'", "https://a*", "https://[::1", "https://a:99999", "https://a\u2028b",
     "https://user@a", "https://a\\@b", "https://a\tb", "https://\u0430", "https://a:\u0661"],
)  # fmt: skip
def test_what_is_no_origin_is_a_clear_error(url: str) -> None:
    with pytest.raises(ConfigError, match="not a URL that a browser can be sent to"):
        origin(url)
