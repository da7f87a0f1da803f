"""The client as it is written. `synchronous` is made from it: `python -m clients.synchronous write`."""
