"""``python -m llm``."""

from llm.cli.main import main

main()
