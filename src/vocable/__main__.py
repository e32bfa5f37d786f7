"""`vocable`, and `python -m vocable`: what runs before anything heavy is imported, so that Ctrl-C is heard from the start."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line."""
    try:
        from vocable.cli.main import main as run

        run()
    except KeyboardInterrupt:
        print("vocable: stopped; run the same command again to go on", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
