"""The command line, `aindusdb` or `python -m aindusdb`."""

import sys


def main() -> None:
    try:
        # What it imports takes a second, in which Ctrl-C may come.
        from aindusdb.cli import main as run
    except KeyboardInterrupt:
        sys.exit(130)
    run()


if __name__ == "__main__":
    main()
