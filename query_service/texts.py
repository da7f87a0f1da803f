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
    except ModelMismatchError as error:
        raise _problem_of_model(error, collection, queries) from error
    except (NoProviderError, TextRefusedError) as error:
        raise problem_of_texts(error, queries) from error
    for (pointer, _), embedding in zip(queries, embeddings, strict=True):
        fault = embedding_fault(embedding.numbers, collection.metric, collection.type)
        if fault is not None:
            detail = f"of the model's embedding of this text: {fault.rule}"
            field = FieldError(pointer=pointer, type=fault.problem, detail=detail)
            raise ProblemError(fault.problem, f"{pointer}: {detail}", errors=[field])
    return embeddings


def _problem_of_model(
    error: ModelMismatchError, collection: LiveCollection, queries: Sequence[tuple[str, str]]
) -> ProblemError:
    """What the past was embedded by may be away for good."""
    past = collection.past
    if past is None:
        return problem_of_texts(error, queries)
    spec = collection.embedding_spec
    detail = (
        f"at position {past.position} {error}; search there by an embedding of the model {spec.model!r}, of "
        f"{spec.dimension} dimensions, in place of the text"
    )
    errors = [FieldError(pointer=pointer, type="model-mismatch", detail=detail) for pointer, _ in queries]
    return ProblemError("model-mismatch", f"{queries[0][0]}: {detail}", errors=errors, expected=spec.model_dump())


def check_model(collection: LiveCollection, model: str, pointer: str) -> None:
    """
    Raises:
        ProblemError: model-mismatch, the embedding is of another model than what it is to be compared with.
    """
    spec = collection.embedding_spec
    if model == spec.model:
        return
    detail = f"the collection's model is {spec.model!r}, not {model!r}"
    if collection.past is None and model == collection.specs.target.spec.model:
        detail += "; it moves to that one, and is searched by it from when all of its vectors are"
    elif collection.past is None and model in [other.model for other in collection.specs.others]:
        detail += "; it has moved on from that one"
    error = FieldError(pointer=pointer, type="model-mismatch", detail=detail)
    raise ProblemError("model-mismatch", f"{pointer}: {detail}", errors=[error], expected=spec.model_dump())
