"""One executable check per claim of the papers."""
