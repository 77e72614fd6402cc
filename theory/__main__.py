"""``python -m theory``."""

from theory.cli.main import main

main()
