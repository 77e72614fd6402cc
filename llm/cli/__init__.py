"""The command ``llm``."""
