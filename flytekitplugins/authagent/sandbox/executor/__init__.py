"""Runs registered tasks and workflows for real, on this machine, as propeller would in a cluster."""
