"""Month partitions of a generation's tables: in which one a vector lies, and making those that are missing.

Months are those of created_at, in UTC. A vector has it from the event that created it, so its place never changes; one
that was deleted and is created again may lie elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from projector.generations import Generation
from shared.postgres import Connection

MAX_PARTITIONS = 120
"""From the month on in which the collection was created. The last one takes all that comes later: a search that no
date narrows asks every partition, and locks each of its tables and indexes."""

# Truncating a table's end takes an exclusive lock that a replica replays against its readers.
STORAGE = " WITH (fillfactor = {fillfactor}, vacuum_truncate = off, toast.vacuum_truncate = off)"

RECORDS_FILLFACTOR = 90
EMBEDDINGS_FILLFACTOR = 100

# Not to_regclass(name): a session may remember that there was no such table until it next locks one.
_MISSING = """
SELECT name FROM unnest($2::text[]) AS given(name)
WHERE name NOT IN (
    SELECT c.relname FROM pg_inherits h JOIN pg_class c ON c.oid = h.inhrelid WHERE h.inhparent = to_regclass($1)
)
"""

_BEGAN = "SELECT created_at FROM collections WHERE collection_id = $1"

# Two projectors may meet the same month at once.
_LOCK = "SELECT pg_advisory_xact_lock(7120032, hashtext($1))"

# Attached, because CREATE TABLE … PARTITION OF would wait for the searches under way, and all later ones for it.
_CREATE = """
CREATE TABLE {partition} (LIKE {table} INCLUDING STORAGE){storage};
ALTER TABLE {table} ATTACH PARTITION {partition} FOR VALUES FROM ({low}) TO ({high});
"""

_LEAVES = """
SELECT c.relname AS leaf FROM pg_inherits h JOIN pg_class c ON c.oid = h.inhrelid
WHERE h.inhparent = to_regclass($1) ORDER BY c.relname
"""


@dataclass(frozen=True, slots=True, order=True)
class Month:
    year: int
    month: int

    @classmethod
    def of(cls, moment: datetime) -> Month:
        utc = moment.astimezone(UTC)
        return cls(utc.year, utc.month)

    def later(self, months: int) -> Month:
        years, month = divmod(self.month - 1 + months, 12)
        return Month(self.year + years, month + 1)

    @property
    def begin(self) -> str:
        """As a SQL literal."""
        return f"'{self.year:04}-{self.month:02}-01T00:00:00Z'"

    @property
    def suffix(self) -> str:
        return f"_{self.year:04}{self.month:02}"


@dataclass(frozen=True, slots=True)
class Span:
    """The months that have partitions of their own. The first one also takes what is before it, the last one what is
    after it."""

    first: Month

    @property
    def last(self) -> Month:
        return self.first.later(MAX_PARTITIONS - 1)

    def place(self, month: Month) -> Month:
        """The month in whose partition a vector lies that was created in this one."""
        return min(max(month, self.first), self.last)

    def bounds(self, month: Month) -> tuple[str, str]:
        """Of the partition: where it begins, and where the next one does, in SQL."""
        low = "MINVALUE" if month == self.first else month.begin
        high = "MAXVALUE" if month == self.last else month.later(1).begin
        return low, high


async def make_partitions(connection: Connection, generation: Generation, created: Iterable[datetime]) -> list[Month]:
    """Makes the partitions in which vectors lie that were created then, in the caller's transaction; searches go on.
    Returns the months whose partitions are new."""
    months = {Month.of(moment) for moment in created}
    if not await _missing(connection, generation, months):
        return []
    span = Span(Month.of(await connection.fetchval(_BEGAN, generation.collection_id)))
    places = {span.place(month) for month in months}
    if not await _missing(connection, generation, places):
        return []
    await connection.execute(_LOCK, generation.records)
    missing = await _missing(connection, generation, places)
    if missing:
        await connection.execute("".join(_created(generation, span, month) for month in missing))
    return missing


async def _missing(connection: Connection, generation: Generation, months: Iterable[Month]) -> list[Month]:
    names = {generation.records + month.suffix: month for month in months}
    rows = await connection.fetch(_MISSING, generation.records, list(names))
    return sorted(names[row["name"]] for row in rows)


def _created(generation: Generation, span: Span, month: Month) -> str:
    low, high = span.bounds(month)
    tables = ((generation.records, RECORDS_FILLFACTOR), (generation.embeddings, EMBEDDINGS_FILLFACTOR))
    return "".join(
        _CREATE.format(
            table=table,
            partition=table + month.suffix,
            storage=STORAGE.format(fillfactor=fillfactor),
            low=low,
            high=high,
        )
        for table, fillfactor in tables
    )


async def partitions_of_table(connection: Connection, table: str) -> list[str]:
    """In order of the months."""
    return [row["leaf"] for row in await connection.fetch(_LEAVES, table)]
