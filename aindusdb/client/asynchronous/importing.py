"""Imports of any size in one request, in constant memory."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Literal
from uuid import UUID, uuid4

from aindusdb.client.asynchronous.asking import AsyncAsking
from aindusdb.client.calls import Call, given, vector_path
from aindusdb.client.lines import MEDIA_TYPE, Lines, pieces_of, starts_anew
from aindusdb.client.models import ImportAnswer


class AsyncImportCalls(AsyncAsking):
    async def import_lines(
        self,
        collection: str,
        lines: Lines,
        *,
        on_error: Literal["skip", "stop"] = "skip",
        import_id: UUID | str | None = None,
    ) -> ImportAnswer:
        """Puts a vector a line in place: `lines` is a file (a Path), its bytes, or the lines one by one, each as bytes
        or as what it says.

        A line without an id gets one from its number and `import_id`, which is made up if it is not given. On failure
        the import begins anew if `lines` can be read again; what was written by then stays and is found unchanged.
        """
        source = lines

        async def body() -> AsyncIterator[bytes]:
            for piece in pieces_of(source):
                yield piece

        parameters = given({"on_error": on_error, "import_id": str(import_id or uuid4())})
        call = Call(
            "POST",
            vector_path(collection, "import"),
            ImportAnswer,
            parameters=parameters,
            body=b"",
            media_type=MEDIA_TYPE,
            repeatable=starts_anew(lines),
        )
        return await self._ask(call, body=body)
