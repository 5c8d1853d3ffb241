"""Real peers that a test needs and a machine may not have."""

from __future__ import annotations

import os

import pytest

VARIABLES = ("AUTHAGENT_SECOND_USER", "AUTHAGENT_REQUIRE_PEERS")

SECOND_USER = os.environ.get("AUTHAGENT_SECOND_USER", "")
"""Whom `sudo` may be used for: set in the image of Dockerfile.test."""

REQUIRED = os.environ.get("AUTHAGENT_REQUIRE_PEERS") == "1"


def need(peer: str, present: object) -> None:
    """
    Skip the test, loudly, where `peer` is missing; with AUTHAGENT_REQUIRE_PEERS=1 that is a failure.

    The summary of a run names every peer that was missing (see `pytest -rs`, which setup.cfg asks for).
    """
    if present:
        return
    if REQUIRED:
        pytest.fail(f"MISSING PEER: {peer}")
    pytest.skip(f"MISSING PEER: {peer}")
