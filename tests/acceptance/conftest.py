"""The fixtures of tests/farm.py."""

from ..farm import farm, marks

__all__ = ["farm", "marks"]
