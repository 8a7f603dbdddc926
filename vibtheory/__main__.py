"""`python -m vibtheory …`, the same as `vibtheory …`."""

from vibtheory.cli import main

if __name__ == "__main__":
    main()
