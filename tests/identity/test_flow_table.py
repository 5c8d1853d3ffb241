"""The table of docs/identity-providers.md is that of the suite's runs."""

from __future__ import annotations

from pathlib import Path

import test_keycloak
import test_oidc_provider_flows
import test_sandbox_flows
from flow_peer import FLOWS

from flytekitplugins.authagent.oauth.error_code import MICROSOFT

PAGE = Path(__file__).parents[2] / "docs" / "identity-providers.md"

RUNS = {
    "sandbox": test_sandbox_flows.NOT_OFFERED,
    "oidc-provider": test_oidc_provider_flows.NOT_OFFERED,
    "Keycloak": test_keycloak.NOT_OFFERED,
}
"""What the suite holds each of them to: a flow that is declared as not offered must fail there, each other one work."""


def table() -> str:
    rows = [f"| flow | {' | '.join(RUNS)} |", "|---" * (len(RUNS) + 1) + "|"]
    for flow, words in FLOWS.items():
        cells = [f"no: {missing[flow]}" if flow in missing else "yes" for missing in RUNS.values()]
        rows.append(f"| {words} | {' | '.join(cells)} |")
    return "\n".join(rows)


def test_the_page_has_the_table_of_the_runs() -> None:
    shown = PAGE.read_text().split("<!-- flows -->\n")[1].split("\n\n")[0].strip()
    assert shown == table()


def test_the_page_has_the_numbers_of_entra_id() -> None:
    shown = PAGE.read_text().split("<!-- aadsts -->\n")[1].split("\n\n")[0].splitlines()[2:]
    assert shown == [f"| `AADSTS{number}` | {meaning} |" for number, meaning in MICROSOFT.items()]
