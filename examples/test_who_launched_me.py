"""
How to test a task that uses Flyte, without one.

    python -m pytest -p flytekitplugins.authagent.testing examples/test_who_launched_me.py
"""

from examples.who_launched_me import credit
from flytekitplugins.authagent.identity import Fact, Identity


def test_a_person_is_called_by_name(fake_remote):
    fake_remote.identity = Identity(
        subject=Fact("00u1a2b3", "control_plane"),
        name=Fact("Ada Lovelace", "control_plane"),
    )

    assert credit() == "launched by Ada Lovelace (control_plane)"


def test_somebody_without_a_name_by_the_subject(fake_remote):
    fake_remote.identity = Identity(subject=Fact("flyte-batch", "hint"))

    assert credit() == "launched by flyte-batch (hint)"


def test_nobody_is_made_up(fake_remote):
    assert credit() == "launched by somebody unknown"
