"""Whatever stands where a Flyte should be is called what it is: what was seen first, then the one likely cause."""

from __future__ import annotations

from pathlib import Path

import pytest
from before_flyte import TABLE, Row

from flytekitplugins.authagent import discovery, endpoint
from flytekitplugins.authagent.discovery import FlyteServer
from flytekitplugins.authagent.errors import AuthAgentError

DOCUMENTED = (Path(__file__).parent.parent / "docs" / "troubleshooting.md").read_text().splitlines()

pytestmark = pytest.mark.timeout(60)


@pytest.mark.parametrize("row", TABLE, ids=[row.name for row in TABLE])
def test_it_is_called_what_it_is(tmp_path: Path, row: Row) -> None:
    with row.situation(tmp_path) as met:
        where = endpoint.parse(f"{met.host}:{met.port}")
        server = FlyteServer(where, insecure=met.insecure, ca_file=met.ca_file, timeout=2.0)
        with pytest.raises(AuthAgentError) as caught:
            discovery.public_client(server)
    said, hint = str(caught.value.args[0]), caught.value.hint
    assert row.seen in said
    assert row.hint in hint
    assert caught.value.exit_code == row.exit_code
    assert "pl4nted" not in said + hint
    assert "takes no such token" not in said
    line = f"| {row.name} | {said.replace(where.target, 'flyte.example.com')} | {hint} |"
    assert line in DOCUMENTED, line
