"""
What happens at `import flytekit`.

Automatic binding: with `AUTHAGENT_AUTO=1` every task, of every plugin, has `current_context().remote`. And in a task
with `FLYTE_CREDENTIALS_AUTH_MODE=authagent`, flytekit's own client is taught to tell the agent of what it launches.

flytekit loads this module at the end of `import flytekit`, in every process that has this package installed. So
it must cost nothing when it is off, and nothing that happens here may ever break that import.
"""

import os

if os.environ.get("AUTHAGENT_AUTO", "0").lower() not in ("", "0", "false"):
    try:
        from flytekitplugins.authagent.auto_binding import install

        install(os.environ)
    except Exception as broken:  # whatever it is, flytekit must still import
        import warnings

        warnings.warn(f"AUTHAGENT_AUTO: no automatic binding: {type(broken).__name__}: {broken}", stacklevel=2)

_mode = os.environ.get("FLYTE_CREDENTIALS_AUTH_MODE", "")
if _mode.lower() == "authagent" and os.environ.get("FLYTE_INTERNAL_EXECUTION_ID"):
    try:
        from flytekitplugins.authagent.flytekit_client import teach

        teach(os.environ)
    except Exception as broken:  # as above
        import warnings

        warnings.warn(f"no grant covers what flytekit launches: {type(broken).__name__}: {broken}", stacklevel=2)
