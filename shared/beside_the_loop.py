"""Work that would hold up the event loop, done in a thread.

One thread: Python runs one at a time anyway, and each more would take a turn away from the event loop, which is
what this is for. What waits for it is bounded by the requests under way.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Result = TypeVar("Result")

_THREAD = ThreadPoolExecutor(max_workers=1, thread_name_prefix="beside-the-loop")


async def beside_the_loop(work: Callable[..., Result], *arguments: object) -> Result:
    """The outcome of `work(*arguments)`, which must touch nothing that belongs to the event loop."""
    return await asyncio.get_running_loop().run_in_executor(_THREAD, work, *arguments)
