"""Preference objectives on a table: what they converge to, how fast, and when they degenerate."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("prefproof")
except PackageNotFoundError:  # a source tree that was never installed
    __version__ = "0+uninstalled"
