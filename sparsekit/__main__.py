"""`python -m sparsekit` is the command line."""

from sparsekit.cli import main

if __name__ == "__main__":
    main()
