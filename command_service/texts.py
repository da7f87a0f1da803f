"""Content that comes without an embedding is embedded here: before the append lock, and before a collection is made.

The collection says by which model. Where another one is at work here, or none, the write is refused. While the
collection moves from one model to another, a write needs embeddings of both: one may be brought, the rest is computed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from command_service.domain.collections import Collection
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
from events_schema.collections import MAX_INDEXED_DIMENSION
from events_schema.embedding import EmbeddingSpec
from events_schema.streams import DEFAULT_COLLECTION
from shared.embedding.errors import ModelMismatchError, NoProviderError, TextRefusedError, described
from shared.embedding.problems import problem_of_texts
from shared.embedding.texts import TextEmbedding
from shared.http.problems import FieldError, ProblemError

Inputs = Sequence[tuple[str, VectorInput]]
"""What a write brings, each with its address in the body."""


@dataclass(frozen=True, slots=True)
class Embedded:
    """Under which specs an input's own embedding counts, and the embeddings of its content under others."""

    brought: tuple[EmbeddingSpec, ...] = ()
    texts: tuple[tuple[EmbeddingSpec, TextEmbedding], ...] = ()

    @property
    def truncated(self) -> bool:
        return any(text.truncated for _, text in self.texts)


@dataclass(frozen=True, slots=True)
class Destination:
    """The collection of a write, and what each of its inputs is embedded as."""

    collection: Collection
    embedded: tuple[Embedded, ...]


@dataclass(frozen=True, slots=True)
class _Text:
    index: int
    pointer: str
    content: str


async def target_of(service: CommandService, context: CommandContext, name: str, inputs: Inputs) -> WriteTarget:
    """The collection `default` comes into being with the model that its first texts are embedded by, or, if they bring
    none, with the dimension of the first embedding. What is only for vectors that are there does not make it.

    Raises:
        CollectionNotFoundError, CollectionChangedError
        ProblemError: its first embedding is none for a collection with every default.
        ProviderUnavailableError
    """
    return await service.resolve(context.tenant, name) or await _new_default(service, context, name, inputs)


async def destination(
    service: CommandService, context: CommandContext, target: WriteTarget, inputs: Inputs
) -> Destination:
    """
    Raises:
        ProblemError: a model is not the collection's, a text is blank or this service cannot embed it, or an embedding
            is missing that cannot be computed.
        ProviderUnavailableError, TooManyTextsError
    """
    specs = target.collection.specs.specs
    brought = _brought(specs, inputs)
    embedded = list(map(Embedded, brought))
    for spec in specs:
        texts = _texts(inputs, brought, spec, moving=len(specs) > 1)
        _check_not_blank(texts)
        with _telling_which(texts):
            embeddings = await service.embedder.embed(context.tenant, [text.content for text in texts], spec, "content")
        for text, embedding in zip(texts, embeddings, strict=True):
            before = embedded[text.index]
            embedded[text.index] = Embedded(before.brought, (*before.texts, (spec, embedding)))
    return Destination(target.collection, tuple(embedded))


async def _new_default(service: CommandService, context: CommandContext, name: str, inputs: Inputs) -> WriteTarget:
    """
    Raises:
        ProblemError: validation, the first embedding is none for a collection with every default.
        And as `destination`.
    """
    if name == DEFAULT_COLLECTION:
        texts = _first_texts(inputs)
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


def _first_texts(inputs: Inputs) -> list[_Text]:
    """The contents of new vectors that come without an embedding."""
    return [
        _Text(index, f"{pointer}/content", one.content)
        for index, (pointer, one) in enumerate(inputs)
        if not isinstance(one, DeleteOperation | PatchVectorRequest)
        and one.embedding is None
        and one.content is not None
    ]


def _brought(specs: Sequence[EmbeddingSpec], inputs: Inputs) -> list[tuple[EmbeddingSpec, ...]]:
    """Under which of the collection's specs the embedding of each input counts.

    Raises:
        ProblemError: model-mismatch, with the address of each that is of none of them, or says not of which.
    """
    found: list[tuple[EmbeddingSpec, ...]] = []
    errors: list[FieldError] = []
    for pointer, one in inputs:
        if isinstance(one, DeleteOperation):
            found.append(())
            continue
        of = tuple(specs) if one.model is None else tuple(spec for spec in specs if spec.model == one.model)
        if not of:
            models = " or ".join(repr(spec.model) for spec in specs)
            detail = f"the collection's model is {models}, not {one.model!r}"
            errors.append(FieldError(pointer=f"{pointer}/model", type="model-mismatch", detail=detail))
        elif one.embedding is not None and len(of) > 1:
            of = tuple(spec for spec in of if spec.dimension == one.embedding.size) or of[:1]
            of = tuple(spec for spec in of if spec.model is None) or of
            if one.model is None and len(of) > 1:
                models = " or ".join(repr(spec.model) for spec in specs)
                detail = f"the collection is moving between models of this dimension: say of which it is, {models}"
                errors.append(FieldError(pointer=f"{pointer}/model", type="model-mismatch", detail=detail))
        found.append(of if one.embedding is not None else ())
    if errors:
        detail = f"{errors[0].pointer}: {errors[0].detail}"
        raise ProblemError("model-mismatch", detail, errors=errors, expected=specs[0].model_dump())
    return found


def _texts(
    inputs: Inputs, brought: Sequence[Sequence[EmbeddingSpec]], spec: EmbeddingSpec, *, moving: bool
) -> list[_Text]:
    """The contents that are to be embedded under the spec.

    Raises:
        ProblemError: model-mismatch, an embedding under it is needed and cannot be computed.
    """
    texts: list[_Text] = []
    errors: list[FieldError] = []
    for index, ((pointer, one), own) in enumerate(zip(inputs, brought, strict=True)):
        if isinstance(one, DeleteOperation) or spec in own:
            continue
        is_patch = isinstance(one, PatchVectorRequest)
        if is_patch and (one.content is None or spec.provider == "client"):
            continue
        if one.content is None or (moving and spec.provider == "client"):
            errors.append(_missing(pointer, spec))
        else:
            texts.append(_Text(index, f"{pointer}/content", one.content))
    if errors:
        detail = f"{errors[0].pointer}: {errors[0].detail}"
        raise ProblemError("model-mismatch", detail, errors=errors, expected=spec.model_dump())
    return texts


def _missing(pointer: str, spec: EmbeddingSpec) -> FieldError:
    """While a collection moves, each vector that is written has embeddings of both models."""
    field, bring = "content", "bring the content that it is computed from"
    if spec.provider == "client":
        field, bring = "embedding", f"bring its {spec.dimension} numbers, and the content for the other model"
    detail = f"the collection is moving between models, and an embedding {described(spec)} is missing: {bring}"
    return FieldError(pointer=f"{pointer}/{field}", type="model-mismatch", detail=detail)


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
