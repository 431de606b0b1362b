"""`python -m sparsekit` is the command line."""

from sparsekit.cli import main

main()
