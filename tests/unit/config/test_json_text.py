"""JSON that is made quickly is the standard library's."""

import json
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from enum import IntEnum, StrEnum
from functools import reduce
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from config.json_text import json_text, plain, ready_json


@dataclass
class Point:
    x: int


class Pair(NamedTuple):
    one: int
    other: str


class Word(StrEnum):
    YES = "yes"


class Number(IntEnum):
    TWO = 2


OTHERS: list[Callable[[], Any]] = [
    lambda: b"abc",
    lambda: {1},
    lambda: uuid.UUID(int=1),
    lambda: Point(1),
    lambda: datetime(2026, 11, 29, tzinfo=UTC),
    lambda: Decimal("0.1"),
    lambda: Path("folder"),
    lambda: (number for number in range(2)),
    lambda: ValueError("refused"),
]


@pytest.mark.parametrize("other", OTHERS)
@pytest.mark.parametrize("around", [lambda it: it, lambda it: [it], lambda it: {"a": {"b": it}}, lambda it: (1, it)])
def test_json_of_a_type_that_json_lacks_is_refused(other: Callable[[], Any], around: Callable[[Any], Any]) -> None:
    with pytest.raises(TypeError):
        json_text(around(other()))
    with pytest.raises(TypeError):
        plain(around(other()))


def test_json_of_a_tuple_is_made_quickly_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json, "dumps", None)  # one value of another type makes a group's whole parameter slow
    assert json_text([{"artifact": {"treatments": ("denoised", "cropped"), "none": ()}}]) == (
        '[{"artifact":{"treatments":["denoised","cropped"],"none":[]}}]'
    )


@pytest.mark.parametrize("name", [uuid.UUID(int=1), b"a", (1, 2)])
def test_json_of_a_name_that_is_no_text_is_refused(name: Any) -> None:
    with pytest.raises(TypeError):
        json_text({name: 1})


@pytest.mark.parametrize(
    "value",
    [
        {"a": [1, 2.5, None, True, 'ü\u2028\x1b"', {}], "b": [], "c": 10**30},
        {2: "a", None: "b", True: "c"},
        {"a": (1, Pair(1, "x")), "b": Word.YES, Word.YES: Number.TWO},
        "\udce9",
        [float("inf")],
        reduce(lambda inner, _: [inner], range(400), []),
    ],
)
def test_json_is_read_as_what_the_standard_library_writes(value: Any) -> None:
    assert repr(json.loads(json_text(value))) == repr(json.loads(json.dumps(value)))
    assert repr(json.loads(ready_json(plain(value)))) == repr(json.loads(json.dumps(value)))


def test_json_that_is_text_already_is_left_as_it_is() -> None:
    assert json_text(ready_json([1])) == "[1]"
    assert json_text("[1]") == '"[1]"'
