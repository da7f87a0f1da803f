"""Commands as pages print them, with the answers that they print below.

A block of the language `bash` is a promise: it runs as it stands there. Commands that are not to be run by a test, such
as those that start the stack, stand in blocks of the language `sh`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from markdown_it import MarkdownIt

_ANSWERS = ("json", "text")


@dataclass(frozen=True, slots=True)
class Step:
    """`answer` is the block that follows, if it shows what the command prints: JSON or plain text."""

    command: str
    answer: str | None = None
    answers_json: bool = False


def steps_of(text: str) -> list[Step]:
    """Of a page, in its order."""
    steps: list[Step] = []
    for token in MarkdownIt("commonmark").parse(text):
        if token.type != "fence":
            continue
        if token.info == "bash":
            steps.append(Step(token.content))
        elif token.info in _ANSWERS and steps and steps[-1].answer is None:
            steps[-1] = Step(steps[-1].command, token.content, token.info == "json")
    return steps


def differences(step: Step, printed: str) -> list[str]:
    """How what a command printed differs from what the page shows, as sentences.

    JSON is compared by its shape: members, lengths of arrays, kinds of values. Without an answer on the page anything
    will do but a refusal.
    """
    if step.answer is None:
        return [f"it was refused: {printed}"] if is_refusal(printed) else []
    if not step.answers_json:
        return [] if printed.split() == step.answer.split() else [f"it printed {printed!r}, not {step.answer!r}"]
    try:
        given = json.loads(printed)
    except ValueError:
        return [f"it printed no JSON: {printed!r}"]
    return list(_different(json.loads(step.answer), given, ""))


def is_refusal(printed: str) -> bool:
    return '"type":"/problems/' in printed.replace(" ", "")


def _different(shown: Any, given: Any, at: str) -> Iterator[str]:
    if _kind(shown) != _kind(given):
        yield f"{at or '/'} is {_kind(given)}, not {_kind(shown)}"
    elif isinstance(shown, dict):
        for name in shown.keys() - given.keys():
            yield f"{at}/{name} is missing"
        for name in given.keys() - shown.keys():
            yield f"{at}/{name} is not on the page"
        for name in shown.keys() & given.keys():
            yield from _different(shown[name], given[name], f"{at}/{name}")
    elif isinstance(shown, list):
        if len(shown) != len(given):
            yield f"{at or '/'} has {len(given)} elements, not {len(shown)}"
        for index, (one, other) in enumerate(zip(shown, given, strict=False)):
            yield from _different(one, other, f"{at}/{index}")
    elif at == "/type" and shown != given:
        yield f"the problem is {given}, not {shown}"


def _kind(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "a boolean"
        case int() | float():
            return "a number"
        case str():
            return "a string"
        case list():
            return "an array"
        case _:
            return "an object"
