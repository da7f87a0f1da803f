"""Generated from `asynchronous` by `python -m clients.synchronous write`: change that one."""
