"""Who is one stranger, and how many requests that one may make."""

from __future__ import annotations

import pytest

from flytekitplugins.authagent.agent.connections import Connections, network
from flytekitplugins.authagent.agent.peer import at
from flytekitplugins.authagent.agent.token_bucket import REMEMBERED, TokenBuckets
from flytekitplugins.authagent.hub.rates import BURST, Rates


@pytest.mark.parametrize(
    ("address", "whose"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:0db8:0001:0002::/64"),
        ("2001:db8:1:2::", "2001:0db8:0001:0002::/64"),
        ("2001:db8:1:3::", "2001:0db8:0001:0003::/64"),
        ("fe80::1%eth0", "fe80:0000:0000:0000::/64"),
        ("::1", "0000:0000:0000:0000::/64"),
        ("unknown", "unknown"),
        ("no:address", "no:address"),
        ("", ""),
    ],
)
def test_who_is_one_stranger(address: str, whose: str) -> None:
    assert network(address) == whose


def test_a_network_has_one_bucket_which_fills_again_and_another_has_its_own() -> None:
    rates = Rates(10.0)
    most = int(10 * BURST)
    assert [rates.allows(f"2001:db8::{n:x}", 0.0) for n in range(most + 5)] == [True] * most + [False] * 5
    assert rates.allows("2001:db8:0:1::1", 0.0)
    assert rates.allows("192.0.2.1", 0.0)
    assert [rates.allows("2001:db8::1", 0.1), rates.allows("2001:db8::2", 0.1)] == [True, False]


def test_as_many_callers_are_remembered_as_there_is_room_for() -> None:
    buckets = TokenBuckets(1.0, 2.0)
    for n in range(REMEMBERED + 100):
        buckets.take(f"2001:db8:{n:x}::1", 0.0)
    assert len(buckets._buckets) == REMEMBERED


class Opened:
    """A connection from an address."""

    def __init__(self, address: str) -> None:
        self.peer, self.deadline, self.held = at((address, 1)), 0.0, 0

    def give_up(self) -> None:
        raise AssertionError("nobody ends what was only counted")

    finish = abort = give_up


def test_a_network_has_its_share_of_the_connections_and_leaves_the_rest() -> None:
    connections = Connections(limit=10, per_user=3)
    of_one = [Opened(f"2001:db8::{n:x}") for n in range(5)]
    assert [connections.admit(each) for each in of_one] == [True, True, True, False, False]
    assert connections.admit(Opened("2001:db8:0:1::1"))
    connections.leave(of_one[0])
    assert connections.admit(of_one[4])
    for each in of_one:
        connections.leave(each)
    assert len(connections) == 1
    assert sum(connections._by_user.values()) == 1
