"""Where a hub would keep grants, looked at before there is one."""

from __future__ import annotations

import os

from flytekitplugins.authagent.agent.file import AgentFile


def check(file: AgentFile) -> str:
    """
    Refuse an address of the store that a hub would refuse; else what is weak about it, where anything is.

    What is not on this machine is not looked at: the file that holds the address, or the extra that reads it. Raises
    `ConfigError`.
    """
    if file.hub is None or (file.hub.store_file and not os.access(file.hub.store_file, os.R_OK)):
        return ""
    try:
        from flytekitplugins.authagent.hub import address
    except ImportError:
        return ""
    return address.address(address.written(file.hub)).weakness
