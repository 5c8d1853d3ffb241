"""What the provider keeps in memory stays within its bounds, and forgetting makes nothing good that was bad."""

from __future__ import annotations

import pytest

from flytekitplugins.authagent.sandbox import access_tokens, authorization_codes, device_codes, families
from flytekitplugins.authagent.sandbox.access_tokens import AccessToken, AccessTokens
from flytekitplugins.authagent.sandbox.authorization_codes import AuthorizationCode, AuthorizationCodes
from flytekitplugins.authagent.sandbox.device_codes import DeviceCodes
from flytekitplugins.authagent.sandbox.families import Families, new_family

pytestmark = pytest.mark.timeout(30)


def code(codes: AuthorizationCodes) -> AuthorizationCode:
    return codes.issue("flytectl", "alice", "all", redirect_uri=None, code_challenge=None, nonce=None, now=0.0)


def test_the_oldest_family_is_forgotten(monkeypatch):
    monkeypatch.setattr(families, "MAX_REVOKED", 3)
    known = Families()
    names = [new_family() for _ in range(5)]
    for name in names:
        known.revoke(name)

    assert [known.revoked(name) for name in names] == [False, False, True, True, True]


def test_an_access_token_that_is_forgotten_is_not_good(monkeypatch):
    monkeypatch.setattr(access_tokens, "MAX_REMEMBERED", 2)
    tokens = AccessTokens(Families())
    for n in range(4):
        tokens.keep(AccessToken(str(n), "batch", None, frozenset(), "f"))

    assert [bool(tokens.find(str(n))) for n in range(4)] == [False, False, True, True]
    for n in range(4):
        tokens.revoke(str(n))
    assert not any(tokens.find(str(n)) for n in range(4))
    assert tokens.client_of("3") == "batch"


def test_a_code_that_is_forgotten_is_not_good(monkeypatch):
    monkeypatch.setattr(authorization_codes, "MAX_CODES", 2)
    codes = AuthorizationCodes(Families())
    issued = [code(codes) for _ in range(4)]

    assert [bool(codes.find(one.text, "flytectl", now=1.0)) for one in issued] == [False, False, True, True]
    assert [codes.spend(one) for one in issued] == [False, False, True, True]
    assert [codes.spend(one) for one in issued] == [False] * 4


def test_what_is_issued_after_its_family_ended_is_dead():
    known = Families()
    codes, tokens = AuthorizationCodes(known), AccessTokens(known)
    spent = code(codes)
    assert codes.spend(spent)
    assert codes.find(spent.text, "flytectl", now=1.0) is None
    tokens.keep(AccessToken("late", "flytectl", "alice", frozenset(), spent.family))

    assert tokens.find("late") is None


def test_devices_are_few(monkeypatch):
    monkeypatch.setattr(device_codes, "MAX_WAITING", 2)
    devices = DeviceCodes()
    waiting = [devices.issue("flytectl", "", interval=None, now=0.0) for _ in range(4)]

    assert [bool(devices.find(one.text)) for one in waiting] == [False, False, True, True]
    assert waiting[0].interval == 5
    assert len({one.user_code for one in waiting}) == 4
