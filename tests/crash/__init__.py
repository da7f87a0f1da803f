"""`python -m tests.crash`: kills the processes of a running stack under load, has standbys promoted, and holds what is
left against what was acknowledged."""
