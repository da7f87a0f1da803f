"""Cranfield, embedded by a real model: everything arrives once, and the index answers as an exact search does."""

from __future__ import annotations

import asyncio
import hashlib
import sys
from collections.abc import Sequence
from uuid import UUID

import numpy as np

from aindusdb.client import Client
from benchmarks.figures import Target, arguments, conclude, say
from benchmarks.forced_index import forced_overlap_at_10
from benchmarks.loading import load, new_collection, wait_until_searchable
from benchmarks.material import REPOSITORY, Document, corpus, model_dir, queries
from benchmarks.overlap import overlap_at_10
from benchmarks.stack import stack
from events_schema.embedding import Float32Array

TARGETS = (
    Target("overlap_at_10", 0.98),
    Target("forced_index_overlap_at_10", 0.98),
    Target("missing", 0, at_most=True),
    Target("twice", 0, at_most=True),
)
CACHE = REPOSITORY / ".benchmarks"


def main() -> int:
    options = arguments(__doc__).parse_args()
    documents, questions = corpus(), queries()
    embeddings, asked = _embedded("corpus", documents), _embedded("queries", questions)
    with stack(options) as running:
        collection = new_collection(running, embeddings.shape[1])
        token = load(running, collection.name, [document.id for document in documents], embeddings)
        waited = wait_until_searchable(running, collection.name, token, asked[0])
        with Client(running.query_url) as client:
            listed = [one.id for one in client.vectors(collection.name, token=token)]
        figures: dict[str, object] = {
            "documents": len(documents),
            "missing": len({document.id for document in documents} - set(listed)),
            "twice": len(listed) - len(set(listed)),
            "searchable_after_seconds": round(waited, 2),
            **overlap_at_10(running, collection.name, asked, token),
        }
        dsn = running.read_dsn()
        if dsn is not None:
            figures["forced_index_overlap_at_10"] = asyncio.run(
                forced_overlap_at_10(dsn, UUID(collection.collection_id), asked)
            )
    return conclude(figures, TARGETS, check=options.check)


def _embedded(name: str, documents: Sequence[Document]) -> Float32Array:
    """Shape (documents, 384). Kept between runs under the texts' digest, for embedding takes longer than the rest."""
    digest = hashlib.sha256("\0".join(document.text for document in documents).encode()).hexdigest()[:16]
    cached = CACHE / f"cranfield-{name}-{digest}.npy"
    if cached.exists():
        known: Float32Array = np.load(cached)
        return known
    from fastembed import TextEmbedding

    say(f"Embedding {len(documents):,} texts ({name}) …")
    model = TextEmbedding("sentence-transformers/all-MiniLM-L6-v2", specific_model_path=str(model_dir()))
    # Small batches: each is padded to its longest text, and 256 long ones together need gigabytes.
    embedded = np.array(list(model.embed([document.text for document in documents], batch_size=8)), dtype=np.float32)
    CACHE.mkdir(exist_ok=True)
    np.save(cached, embedded)
    return embedded


if __name__ == "__main__":
    sys.exit(main())
