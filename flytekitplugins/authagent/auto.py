"""
Automatic binding: with `AUTHAGENT_AUTO=1` every task, of every plugin, has `current_context().remote`.

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
