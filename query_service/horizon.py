"""What any read server has shown, and since when: whoever lacks what was shown a second ago lags."""

from __future__ import annotations

import time
from collections import deque

from query_service.polls import Poll

LAG_SECONDS = 1.0


class Horizon:
    """Fed with every poll of every server."""

    def __init__(self) -> None:
        self._shown: deque[tuple[float, Poll]] = deque()

    def note(self, poll: Poll, *, of_primary: bool) -> None:
        """`of_primary`: nothing can be ahead of the primary, so what seems so is another history's."""
        last = self._shown[-1][1].snapshot if self._shown else None
        if last is not None and (last.log_id != poll.snapshot.log_id or (of_primary and poll.snapshot.high < last.low)):
            self._shown.clear()
            last = None
        now = time.monotonic()
        if last is None or poll.snapshot.low > last.low:
            self._shown.append((now, poll))
        # The newest that is old enough says all that the older ones do.
        while len(self._shown) > 1 and self._shown[1][0] <= now - 2 * LAG_SECONDS:
            self._shown.popleft()

    def lacks(self, poll: Poll) -> bool:
        """Whether the server of this poll was without something that another had shown LAG_SECONDS before."""
        expected = 0
        for shown_at, shown in self._shown:
            if shown_at > poll.began - LAG_SECONDS:
                break
            if shown.snapshot.log_id == poll.snapshot.log_id:
                expected = shown.snapshot.low
        return poll.snapshot.low < expected
