"""The statement of a search with a filter: it estimates how many vectors match, chooses how to find the nearest of
them, and checks what it found, all in one snapshot.

Costs are in units of one vector that is looked up and compared; they were measured, and their ratios hold from 128 to
384 dimensions.
"""

from __future__ import annotations

SAMPLES = 256
"""So many records are looked at, spread evenly over the table: always the same, so that they stay in memory."""

_FEWEST_SAMPLES = 32
"""Of each partition, if there are many."""

# What one step costs beside an exact comparison: to check a record, and to fetch the next nearest from the index with
# its record.
_CHECK = 0.15
_NEXT_NEAREST = 4

# More of the index is scanned than should be needed, and less than that is trusted: where fewer match than half of what
# was expected, they are far from the query, and there the index finds them badly.
_WIDER = 1.25
_TRUSTED = 0.5

_MOST_NEAREST = 10_000
"""Beyond, an exact search is faster than the index."""

_BROAD = 0.05
"""From this share on, joining the tables is faster than looking records up one by one."""

# A record is sampled by its place: a page, and a line in it; of a partitioned table, the same in each partition. What
# the filter says about created_at narrows all of it to the partitions in question, the estimate included.
# The planner knows nothing of the estimate, so each way has its shape: LATERAL … OFFSET 0 is a look-up for each row,
# and CASE hides the filter from its statistics, which may take it for rare. A way not chosen is not executed.
# `looked_up` is the filter as it is written for the indexes; checked record by record it costs more.
STATEMENT = f"""
WITH checkpoints AS ({{checkpoints}}),
extent AS MATERIALIZED (
    SELECT max(pg_relation_size(c.oid)) / current_setting('block_size')::int AS pages,
           coalesce(ceil(sum(c.reltuples) FILTER (WHERE c.reltuples > 0)
                         / nullif(sum(c.relpages) FILTER (WHERE c.reltuples > 0), 0)), 10)::int AS lines,
           greatest({_FEWEST_SAMPLES}, {SAMPLES} / greatest(1, count(*) FILTER (WHERE c.relkind = 'r'))) AS samples
    FROM pg_class c
    WHERE c.oid = ANY (ARRAY(SELECT '{{records}}'::regclass::oid
                             UNION ALL SELECT inhrelid FROM pg_inherits WHERE inhparent = '{{records}}'::regclass))
),
sample AS MATERIALIZED (
    SELECT count(*) AS rows, count(*) FILTER (WHERE {{by_index}}) AS candidates,
           count(*) FILTER (WHERE {{condition}}) AS matching
    FROM {{records}} f
    WHERE f.ctid = ANY (ARRAY(
        SELECT format('(%s,%s)', n * pages / samples, 1 + n * 7919 % lines)::tid
        FROM extent, generate_series(0, samples - 1) n
    )) AND ({{f_is_dated}})
),
estimate AS MATERIALIZED (
    SELECT pages * lines * rows / samples::numeric AS total, (candidates + 0.5) / (rows + 1) AS candidates,
           (matching + 0.5) / (rows + 1) AS matching
    FROM sample, extent
),
plan AS MATERIALIZED (
    SELECT {{exactly}} OR nearest > {_MOST_NEAREST}
               OR total * ({_CHECK} * candidates + matching) <= {_NEXT_NEAREST} * nearest AS exactly,
           matching > {_BROAD} AS broad, nearest
    FROM (SELECT *, ceil({_WIDER} * {{wanted}} / matching)::bigint AS nearest FROM estimate) e
),
settings AS MATERIALIZED (SELECT nearest, {{settings}} FROM plan WHERE NOT exactly),
by_index AS MATERIALIZED (
    SELECT {{key_h}}, h.distance FROM settings CROSS JOIN LATERAL (
        SELECT {{key_n}}, n.distance FROM (
            SELECT {{key_e}}, e.embedding {{operator}} {{embedding}} AS distance
            FROM {{embeddings}} e
            WHERE settings.first IS NOT NULL AND ({{e_is_dated}}){{excluded}}
            ORDER BY e.embedding {{operator}} {{embedding}} LIMIT settings.nearest
        ) n
        CROSS JOIN LATERAL (SELECT FROM {{records}} f WHERE {{f_is_n}} AND ({{condition}}) OFFSET 0) f
        LIMIT 1000
    ) h
),
found AS MATERIALIZED (
    SELECT CASE WHEN exactly THEN 'exact'
                WHEN (SELECT count(*) FROM by_index) >= {_TRUSTED} * {{wanted}} THEN 'index'
                ELSE 'finished_exactly' END AS scan, broad
    FROM plan
),
narrow AS (
    SELECT {{key_m}}, e.distance
    FROM (SELECT {{key_f}} FROM {{records}} f
          WHERE (SELECT scan <> 'index' AND NOT broad FROM found) AND ({{looked_up}})) m
    CROSS JOIN LATERAL (
        SELECT (e.embedding {{operator}} {{embedding}}) + 0 AS distance
        FROM {{embeddings}} e WHERE {{e_is_m}}{{excluded}} OFFSET 0
    ) e
    ORDER BY e.distance, m.id LIMIT {{k}}
),
broad AS (
    SELECT {{key_e}}, (e.embedding {{operator}} {{embedding}}) + 0 AS distance
    FROM {{embeddings}} e JOIN {{records}} f ON {{f_is_e}}
    WHERE (SELECT scan <> 'index' AND broad FROM found) AND ({{e_is_dated}}) AND ({{f_is_dated}})
      AND CASE WHEN {{condition}} THEN true END{{excluded}}
    ORDER BY distance, e.id LIMIT {{k}}
),
nearest AS (
    SELECT * FROM narrow UNION ALL SELECT * FROM broad
    UNION ALL (SELECT * FROM by_index WHERE (SELECT scan = 'index' FROM found) ORDER BY distance, id LIMIT {{k}})
)
SELECT c.low, c.high, c.log_id, {{is_there}} AS is_there,
       {{origin_expires_at}} AS origin_expires_at, (SELECT scan FROM found) AS scan, h.*
FROM checkpoints c LEFT JOIN LATERAL (
    {{hits_from}}SELECT nearest.id, nearest.distance, r.version{{columns}}
    FROM nearest JOIN {{records}} r ON {{r_is_nearest}}{{embedding_join}}{{hits_to}}
) h ON true
ORDER BY h.distance, h.id
"""  # noqa: S608
