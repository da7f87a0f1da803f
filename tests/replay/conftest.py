from __future__ import annotations

from tests.projector.conftest import log, projection

__all__ = ["log", "projection"]
