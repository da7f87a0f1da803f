"""One model of fastembed, on files of this machine or fetched from the hub. Everything here blocks: it runs in threads.

The library and its runtime are imported with the first model: a process that embeds nothing does without their memory.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import structlog

from shared.embedding.texts import Purpose, TextEmbedding

HUB_TIMEOUT_SECONDS = 5.0

_CUSTOM_FILES = ("model.onnx", "onnx/model.onnx", "model_optimized.onnx")
_NEEDED_FILES = ("tokenizer.json", "tokenizer_config.json")

_log = structlog.get_logger("embedding")


class ModelMissingError(Exception):
    """The model's files are not there and cannot be had. The message says what to do."""


class FastembedModel:
    """A loaded model. May be used by several threads at once; each text is computed by one of them on one core."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self._tokenizer = getattr(model.model, "tokenizer", None)
        truncation = getattr(self._tokenizer, "truncation", None) or {}
        self._max_tokens: int | None = truncation.get("max_length")
        self.dimension = self._embed("dimension", "content").numbers.size

    def embed(self, texts: Sequence[str], purpose: Purpose) -> list[TextEmbedding]:
        """One text at a time: in a batch all are padded to the longest, and a quantized model rounds each by what else
        is in its batch, so that the same text would not always get the same embedding."""
        return [self._embed(text, purpose) for text in texts]

    def _embed(self, text: str, purpose: Purpose) -> TextEmbedding:
        embed = self._model.query_embed if purpose == "query" else self._model.passage_embed
        numbers = np.asarray(next(iter(embed([text]))), dtype=np.float32)
        return TextEmbedding(numbers, self._is_truncated(text))

    def _is_truncated(self, text: str) -> bool:
        # A token is at least a byte, so a short text needs no second look.
        if self._tokenizer is None or self._max_tokens is None or len(text.encode()) + 2 <= self._max_tokens:
            return False
        return bool(self._tokenizer.encode(text).overflowing)


def load_model(name: str, path: Path | None) -> FastembedModel:
    """
    Raises:
        ModelMissingError
    """
    fastembed = _import_fastembed()
    if path is not None:
        file = _register_folder(fastembed, name, path)
        return _loaded(fastembed, name, f"{path / file}", specific_model_path=str(path))
    source = _described(fastembed, name)["sources"].get("hf")
    try:
        return _loaded(fastembed, name, "the cache", local_files_only=True)
    except ModelMissingError:
        fault = None if source is None else _hub_fault(source)
        if fault is not None:
            raise ModelMissingError(
                f"the model {name!r} is not on this machine, and the hub that it comes from cannot be reached "
                f"({fault}): let this service reach the hub, or put the model's files into a folder and name that by "
                "AINDUSDB_EMBEDDING_PATH"
            ) from None
    _log.info("the embedding model is not on this machine yet and is being downloaded", model=name, source=source)
    return _loaded(fastembed, name, "the hub")


def known_dimension(name: str) -> int | None:
    """The dimension of a model that fastembed describes; loads nothing.

    Raises:
        ModelMissingError
    """
    described = [one for one in _supported(_import_fastembed()) if one["model"].lower() == name.lower()]
    return int(described[0]["dim"]) if described else None


def _import_fastembed() -> Any:
    # What the hub's library takes from the environment it reads when it is imported.
    for variable, value in {
        "HF_HUB_ETAG_TIMEOUT": f"{HUB_TIMEOUT_SECONDS:.0f}",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }.items():
        os.environ.setdefault(variable, value)
    try:
        import fastembed
        from loguru import logger
    except ImportError as error:
        raise ModelMissingError(
            f"the package fastembed cannot be imported ({error}); it comes with aindusdb-core[embed]"
        ) from error
    logger.disable("fastembed")
    return fastembed


def _supported(fastembed: Any) -> list[dict[str, Any]]:
    models: list[dict[str, Any]] = fastembed.TextEmbedding.list_supported_models()
    return models


def _described(fastembed: Any, name: str) -> dict[str, Any]:
    for one in _supported(fastembed):
        if one["model"].lower() == name.lower():
            return one
    raise ModelMissingError(
        f"fastembed has no model {name!r}: name one that it has by AINDUSDB_EMBEDDING_MODEL, or put this one's files "
        "into a folder and name that by AINDUSDB_EMBEDDING_PATH"
    )


def _loaded(fastembed: Any, name: str, where: str, **options: Any) -> FastembedModel:
    try:
        # Without the arena memory is given back between texts: of 1,400 texts 0.3 GB stay instead of 0.8.
        model = fastembed.TextEmbedding(name, threads=1, cuda=False, enable_cpu_mem_arena=False, **options)
        return FastembedModel(model)
    except Exception as error:  # the runtime's own types are not public
        raise ModelMissingError(f"the model {name!r} cannot be loaded from {where}: {error}") from error


def _register_folder(fastembed: Any, name: str, path: Path) -> str:
    """Makes fastembed know the model if it does not, and says which file of the folder it is."""
    if not path.is_dir():
        raise ModelMissingError(f"AINDUSDB_EMBEDDING_PATH names {path}, which is no folder that can be read")
    described = next((one for one in _supported(fastembed) if one["model"].lower() == name.lower()), None)
    candidates = _CUSTOM_FILES if described is None else (described["model_file"],)
    file = next((one for one in candidates if (path / one).is_file()), None)
    missing = [one for one in _NEEDED_FILES if not (path / one).is_file()]
    if file is None or missing:
        wanted = ", ".join([*missing, *([] if file else [" or ".join(candidates)])])
        raise ModelMissingError(f"{path}, which AINDUSDB_EMBEDDING_PATH names, lacks {wanted}")
    if described is None:
        from fastembed.common.model_description import ModelSource

        fastembed.TextEmbedding.add_custom_model(
            model=name,
            pooling=_pooling(path),
            normalization=True,
            sources=ModelSource(hf=name),
            dim=1,  # not looked at: the loaded model is asked
            model_file=file,
        )
    return file


def _pooling(path: Path) -> Any:
    """How the embeddings of tokens become one: as sentence-transformers writes it down, else their mean."""
    from fastembed.common.model_description import PoolingType

    try:
        written = json.loads((path / "1_Pooling" / "config.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return PoolingType.MEAN
    except (OSError, ValueError) as error:
        raise ModelMissingError(f"{path / '1_Pooling' / 'config.json'} cannot be read: {error}") from error
    if written.get("pooling_mode_cls_token"):
        return PoolingType.CLS
    return PoolingType.LAST_TOKEN if written.get("pooling_mode_lasttoken") else PoolingType.MEAN


def _hub_fault(source: str) -> str | None:
    """Why the hub does not answer for this model; None if it does. Bounded also where looking up its name is not."""
    from huggingface_hub import model_info

    fault: list[str] = []

    def ask() -> None:
        try:
            model_info(source, timeout=HUB_TIMEOUT_SECONDS)
        except Exception as error:  # whatever its HTTP library raises
            fault.append(str(error).splitlines()[0] if str(error) else type(error).__name__)

    asking = threading.Thread(target=ask, name="hub", daemon=True)
    asking.start()
    asking.join(HUB_TIMEOUT_SECONDS)
    if asking.is_alive():
        return f"no answer within {HUB_TIMEOUT_SECONDS:g} seconds"
    return fault[0] if fault else None
