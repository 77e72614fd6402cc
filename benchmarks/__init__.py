"""Benchmarks: every number that the project states about its speed and memory, with the code that measures it."""
