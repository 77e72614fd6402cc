"""Distances, limits, coverage, rates and intervals."""
