"""Exact and second-order solvers, each solution with its certificate."""
