"""An authenticated `FlyteRemote` inside every Flyte task, with no secret in the task."""

# This file imports nothing at all: the command line answers faster than `typing` loads, and a task that never
# touches its remote should not pay for those that do. Each name is fetched from its file on first use (PEP 562).

__all__ = [
    "AuthAgent",
    "TokenRequest",
    "auth_metadata",
    "authenticated",
    "eager",
    "remote",
    "AuthAgentError",
    "ConfigError",
    "Denied",
    "NoCredential",
    "ProviderError",
    "ProviderUnavailable",
    "Rejected",
]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from flytekitplugins.authagent import remote as remote
    from flytekitplugins.authagent.bind import authenticated as authenticated
    from flytekitplugins.authagent.eager_workflow import eager as eager
    from flytekitplugins.authagent.errors import AuthAgentError as AuthAgentError
    from flytekitplugins.authagent.errors import ConfigError as ConfigError
    from flytekitplugins.authagent.errors import Denied as Denied
    from flytekitplugins.authagent.errors import NoCredential as NoCredential
    from flytekitplugins.authagent.errors import ProviderError as ProviderError
    from flytekitplugins.authagent.errors import ProviderUnavailable as ProviderUnavailable
    from flytekitplugins.authagent.errors import Rejected as Rejected
    from flytekitplugins.authagent.passthrough import auth_metadata as auth_metadata
    from flytekitplugins.authagent.task import AuthAgent as AuthAgent
    from flytekitplugins.authagent.task import TokenRequest as TokenRequest

_HOMES = {
    "AuthAgent": "task",
    "TokenRequest": "task",
    "auth_metadata": "passthrough",
    "authenticated": "bind",
    "eager": "eager_workflow",
}


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    if name == "remote":
        return import_module(f"{__name__}.remote")
    found = globals()[name] = getattr(import_module(f"{__name__}.{_HOMES.get(name, 'errors')}"), name)
    return found


def __dir__() -> list[str]:
    return [*globals(), *__all__]
