"""A search by text: the query becomes an embedding of the collection's model before anything is read."""

from __future__ import annotations

from collections.abc import Sequence

from query_service.catalogue import LiveCollection
from shared.embedding.embedder import TextEmbedder
from shared.embedding.errors import ModelMismatchError, NoProviderError, TextRefusedError
from shared.embedding.problems import problem_of_texts
from shared.embedding.texts import TextEmbedding
from shared.embedding_input import embedding_fault
from shared.http.problems import FieldError, ProblemError


async def embedded_queries(
    embedder: TextEmbedder, collection: LiveCollection, queries: Sequence[tuple[str, str]]
) -> list[TextEmbedding]:
    """Of texts, each with its address in the request; in their order.

    Raises:
        ProblemError: this service cannot embed them for this collection, or an embedding has no distances.
        ProviderUnavailableError, TooManyTextsError
    """
    texts = [query for _, query in queries]
    try:
        embeddings = await embedder.embed(collection.tenant, texts, collection.embedding_spec, "query")
    except (NoProviderError, ModelMismatchError, TextRefusedError) as error:
        raise problem_of_texts(error, queries) from error
    for (pointer, _), embedding in zip(queries, embeddings, strict=True):
        fault = embedding_fault(embedding.numbers, collection.metric, collection.type)
        if fault is not None:
            detail = f"of the model's embedding of this text: {fault.rule}"
            field = FieldError(pointer=pointer, type=fault.problem, detail=detail)
            raise ProblemError(fault.problem, f"{pointer}: {detail}", errors=[field])
    return embeddings


def check_model(collection: LiveCollection, model: str, pointer: str) -> None:
    """
    Raises:
        ProblemError: model-mismatch, the embedding is of another model than the collection's.
    """
    spec = collection.embedding_spec
    if model != spec.model:
        detail = f"the collection's model is {spec.model!r}, not {model!r}"
        error = FieldError(pointer=pointer, type="model-mismatch", detail=detail)
        raise ProblemError("model-mismatch", f"{pointer}: {detail}", errors=[error], expected=spec.model_dump())
