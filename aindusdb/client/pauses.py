"""Waiting that can be broken off: what the two clients cannot have in common."""

from __future__ import annotations

import asyncio
import threading


class AsyncPauses:
    def __init__(self) -> None:
        self._over = asyncio.Event()

    def end(self) -> None:
        """Ends all pauses, those that are yet to come too."""
        self._over.set()

    async def broken_off(self, seconds: float) -> bool:
        """Waits; True if the pauses were ended meanwhile."""
        try:
            async with asyncio.timeout(seconds):
                await self._over.wait()
        except TimeoutError:
            return False
        return True


class Pauses:
    """May be used by several threads at once."""

    def __init__(self) -> None:
        self._over = threading.Event()

    def end(self) -> None:
        """Ends all pauses, those that are yet to come too."""
        self._over.set()

    def broken_off(self, seconds: float) -> bool:
        """Waits; True if the pauses were ended meanwhile."""
        return self._over.wait(seconds)
