"""Sweeps: many fits, stored as they are done, resumable."""
