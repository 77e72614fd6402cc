"""``python -m paper_checks``."""

from paper_checks.cli import main

main()
