"""Content that comes without an embedding is embedded here: before the append lock, and before a collection is made.

The collection says by which model. Where another one is at work here, or none, the write is refused.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from command_service.domain.collections import MAX_INDEXED_DIMENSION, Collection
from command_service.domain.commands import CommandContext
from command_service.domain.refusals import CollectionNotFoundError
from command_service.models import (
    CreateVectorRequest,
    DeleteOperation,
    PatchVectorRequest,
    UpsertOperation,
    UpsertVectorRequest,
    VectorInput,
)
from command_service.service import CommandService, WriteTarget
from events_schema.embedding import EmbeddingSpec
from events_schema.streams import DEFAULT_COLLECTION
from shared.embedding.errors import ModelMismatchError, NoProviderError, TextRefusedError
from shared.embedding.problems import problem_of_texts
from shared.embedding.texts import TextEmbedding
from shared.http.problems import FieldError, ProblemError

Inputs = Sequence[tuple[str, VectorInput]]
"""What a write brings, each with its address in the body."""


@dataclass(frozen=True, slots=True)
class Destination:
    """The collection of a write, and for each of its inputs the embedding of its content, if it needed one."""

    target: WriteTarget
    embedded: tuple[TextEmbedding | None, ...]

    @property
    def collection(self) -> Collection:
        return self.target.collection

    @property
    def spec(self) -> EmbeddingSpec:
        return self.target.collection.embedding_spec


@dataclass(frozen=True, slots=True)
class _Text:
    index: int
    pointer: str
    content: str


async def destination(service: CommandService, context: CommandContext, name: str, inputs: Inputs) -> Destination:
    """The collection `default` comes into being with the model that its first texts are embedded by, or, if they bring
    none, with the dimension of the first embedding. What is only for vectors that are there does not make it.

    Raises:
        CollectionNotFoundError, CollectionChangedError
        ProblemError: the model is not the collection's, a text is blank, or this service cannot embed it.
        ProviderUnavailableError, TooManyTextsError
    """
    found = await service.resolve(context.tenant, name)
    target = found or await _new_default(service, context, name, inputs)
    spec = target.collection.embedding_spec
    _check_models(spec, inputs)
    texts = _texts(inputs, patches=spec.provider != "client")
    _check_not_blank(texts)
    with _telling_which(texts):
        embeddings = await service.embedder.embed(context.tenant, [text.content for text in texts], spec, "content")
    embedded: list[TextEmbedding | None] = [None] * len(inputs)
    for text, embedding in zip(texts, embeddings, strict=True):
        embedded[text.index] = embedding
    return Destination(target, tuple(embedded))


async def _new_default(service: CommandService, context: CommandContext, name: str, inputs: Inputs) -> WriteTarget:
    """
    Raises:
        ProblemError: validation, the first embedding is none for a collection with every default.
        And as `destination`.
    """
    if name == DEFAULT_COLLECTION:
        texts = _texts(inputs, patches=False)
        if texts:
            with _telling_which(texts):
                spec = await service.embedder.spec()
            return _indexable(WriteTarget.new(context, name, spec), texts[0].pointer)
        for pointer, one in inputs:
            if (
                isinstance(one, CreateVectorRequest | UpsertVectorRequest | UpsertOperation)
                and one.embedding is not None
            ):
                spec = EmbeddingSpec(provider="client", model=None, dimension=int(one.embedding.size))
                return _indexable(WriteTarget.new(context, name, spec), f"{pointer}/embedding")
    raise CollectionNotFoundError(name)


def _indexable(target: WriteTarget, pointer: str) -> WriteTarget:
    dimension, limit = target.collection.embedding_spec.dimension, MAX_INDEXED_DIMENSION[target.collection.type]
    if dimension > limit:
        detail = (
            f"an indexed {target.collection.type} has at most {limit} dimensions, not {dimension}; "
            f"create the collection {target.collection.name!r} first, with index.kind none or type halfvec"
        )
        error = FieldError(pointer=pointer, type="dimension", detail=detail)
        raise ProblemError("validation", f"{pointer}: {detail}", errors=[error])
    return target


def _texts(inputs: Inputs, *, patches: bool) -> list[_Text]:
    """The contents that need an embedding; `patches`: those of patches too."""
    return [
        _Text(index, f"{pointer}/content", one.content)
        for index, (pointer, one) in enumerate(inputs)
        if not isinstance(one, DeleteOperation)
        and one.embedding is None
        and one.content is not None
        and (patches or not isinstance(one, PatchVectorRequest))
    ]


def _check_models(spec: EmbeddingSpec, inputs: Inputs) -> None:
    errors = [
        FieldError(
            pointer=f"{pointer}/model",
            type="model-mismatch",
            detail=f"the collection's model is {spec.model!r}, not {one.model!r}",
        )
        for pointer, one in inputs
        if not isinstance(one, DeleteOperation) and one.model is not None and one.model != spec.model
    ]
    if errors:
        detail = f"{errors[0].pointer}: {errors[0].detail}"
        raise ProblemError("model-mismatch", detail, errors=errors, expected=spec.model_dump())


def _check_not_blank(texts: Sequence[_Text]) -> None:
    rule = "a blank content says nothing that could be embedded; bring an embedding with it, or a text"
    errors = [
        FieldError(pointer=text.pointer, type="blank-text", detail=rule) for text in texts if not text.content.strip()
    ]
    if errors:
        raise ProblemError("validation", f"{errors[0].pointer}: {rule}", errors=errors)


@contextmanager
def _telling_which(texts: Sequence[_Text]) -> Iterator[None]:
    """A refusal names the fields that it concerns."""
    try:
        yield
    except (NoProviderError, ModelMismatchError, TextRefusedError) as error:
        raise problem_of_texts(error, [(text.pointer, text.content) for text in texts]) from error
