"""A search by text: the query becomes an embedding of the collection's model before anything is read."""

from __future__ import annotations

from query_service.catalogue import LiveCollection
from shared.embedding.embedder import TextEmbedder
from shared.embedding.errors import ModelMismatchError, NoProviderError, TextRefusedError
from shared.embedding.problems import problem_of_texts
from shared.embedding.texts import TextEmbedding
from shared.embedding_input import embedding_fault
from shared.http.problems import FieldError, ProblemError

_POINTER = "/query"


async def embedded_query(embedder: TextEmbedder, collection: LiveCollection, query: str) -> TextEmbedding:
    """
    Raises:
        ProblemError: this service cannot embed the query for this collection, or its embedding has no distances.
        ProviderUnavailableError, TooManyTextsError
    """
    try:
        [embedding] = await embedder.embed(collection.tenant, [query], collection.embedding_spec, "query")
    except (NoProviderError, ModelMismatchError, TextRefusedError) as error:
        raise problem_of_texts(error, [(_POINTER, query)]) from error
    fault = embedding_fault(embedding.numbers, collection.metric, collection.type)
    if fault is not None:
        detail = f"of the model's embedding of this text: {fault.rule}"
        field = FieldError(pointer=_POINTER, type=fault.problem, detail=detail)
        raise ProblemError(fault.problem, f"{_POINTER}: {detail}", errors=[field])
    return embedding


def check_model(collection: LiveCollection, model: str) -> None:
    """
    Raises:
        ProblemError: model-mismatch, the embedding is of another model than the collection's.
    """
    spec = collection.embedding_spec
    if model != spec.model:
        detail = f"the collection's model is {spec.model!r}, not {model!r}"
        error = FieldError(pointer="/model", type="model-mismatch", detail=detail)
        raise ProblemError("model-mismatch", f"/model: {detail}", errors=[error], expected=spec.model_dump())
