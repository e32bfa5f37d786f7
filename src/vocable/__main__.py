"""`python -m vocable`."""

from vocable.cli.main import main

if __name__ == "__main__":
    main()
