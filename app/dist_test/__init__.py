"""Runs a project's whole test suite on a cluster, from the command line."""

__version__ = "0.1.0"
