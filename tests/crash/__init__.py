"""`python -m tests.crash`: kills the processes of a running stack under load, has standbys promoted, loses each
database whole and brings it back, and holds what is left against what was acknowledged."""
