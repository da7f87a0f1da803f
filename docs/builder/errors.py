"""What keeps a page from being generated."""

from __future__ import annotations

from sphinx.errors import SphinxError


class GenerationError(SphinxError):
    """Part of a page cannot be made from the code. Sphinx shows the sentence alone."""

    category = "Cannot be generated"


class UnknownPartError(GenerationError):
    def __init__(self, part: str) -> None:
        super().__init__(f"a page asks for {part!r}, which nothing generates")


class MissingExampleError(GenerationError):
    """An operation cannot be shown by an example, because a model or a parameter has none."""

    def __init__(self, operation: str, what: str) -> None:
        super().__init__(f"{operation}: {what} has no example; give it one where it is declared")


class UndescribedSettingError(GenerationError):
    """Operators would not learn what a setting does."""

    def __init__(self, setting: str) -> None:
        super().__init__(f"{setting} has no docstring below it, which the settings reference shows")
