"""Preference data: exact draws through sufficient statistics, and a user's own comparisons."""

from theory.sampling.counts import WinCounts, bootstrap, draw, is_dense, population, split
from theory.sampling.edges import Edges, draw_edges, split_edges

__all__ = ["Edges", "WinCounts", "bootstrap", "draw", "draw_edges", "is_dense", "population", "split", "split_edges"]
