"""
Run by the interpreter of somebody's `pyflyte`: `python named_pyflyte.py PYFLYTE COUNT ARGUMENT...`.

It is `PYFLYTE ARGUMENT...`, where `{execution}` in the first COUNT arguments is what AUTHAGENT_EXECUTION says. What
stands among arguments everybody sees in the list of processes; the environment is its user's alone.

That interpreter may be of another environment, without anything of ours, and older than we need.
"""

import os
import sys

if sys.path and sys.path[0] == os.path.realpath(__file__).rpartition("/")[0]:  # not with -P
    # As Python itself has it for that script: modules of ours here are called as some of other people's are.
    sys.path[0] = os.path.realpath(sys.argv[1]).rpartition("/")[0]

import runpy

if __name__ == "__main__":
    program, count, arguments = sys.argv[1], int(sys.argv[2]), sys.argv[3:]
    name = os.environ.pop("AUTHAGENT_EXECUTION")
    told = [argument.replace("{execution}", name) for argument in arguments[:count]]
    sys.argv[:] = [program, *told, *arguments[count:]]
    runpy.run_path(program, run_name="__main__")
