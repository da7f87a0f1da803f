"""`python -m aindusdb`."""

from aindusdb.cli import main

main()
