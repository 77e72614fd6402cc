"""The command `theory`: parses, calls, prints; no mathematics."""
