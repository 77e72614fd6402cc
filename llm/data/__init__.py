"""Preference data: one format, an adapter for each source, and the selections of the papers."""
