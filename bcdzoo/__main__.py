"""``python -m bcdzoo``."""

from bcdzoo.cli import main

main()
