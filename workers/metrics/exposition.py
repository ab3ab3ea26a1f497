"""Values as text that Prometheus reads."""

import importlib.metadata
from collections.abc import Collection, Iterable, Iterator, Mapping
from functools import cache, lru_cache
from typing import Final

from workers.metrics.families import BUILD_INFO, FAMILIES, OF_ENDS, PREFIX, Family, Source
from workers.metrics.values import SUM, Key

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
_ESCAPED: Final = str.maketrans({"\\": r"\\", "\n": r"\n", '"': r"\""})

Samples = Mapping[Key, float]


def families_of(sources: Collection[Source]) -> tuple[Family, ...]:
    """Return the families that a process has, in the order of FAMILIES."""
    of_ends = OF_ENDS if "scheduler" in sources else ()
    return tuple(one for one in FAMILIES if one.source in {*sources, "all"} or one in of_ends)


def merged(some: Iterable[Samples]) -> dict[Key, float]:
    """Return the sums of values by key."""
    sums: dict[Key, float] = {}
    for values in some:
        for key, value in values.items():
            sums[key] = sums.get(key, 0.0) + value
    return sums


def exposition(values: Samples, sources: Collection[Source]) -> bytes:
    """Return the text of values, in which each family of a process stands, also one that has no value yet.

    A counter without labels begins at 0. A gauge that isn't known isn't shown. prometheus_client's own writer takes
    five times as long, and a worker with many processes has thousands of values.
    """
    by_family: dict[str, dict[tuple[str, ...], dict[str, float]]] = {BUILD_INFO.name: {(_version(),): {"": 1.0}}}
    for (name, labels, part), value in values.items():
        by_family.setdefault(name, {}).setdefault(labels, {})[part] = value
    lines: list[str] = []
    for family in families_of(sources):
        name = PREFIX + family.name
        lines.append(f"# HELP {name} {family.meaning}\n# TYPE {name} {family.kind}")
        lines += _lines(family, by_family.get(family.name, {}))
    return ("\n".join(lines) + "\n").encode()


@cache
def _version() -> str:
    return importlib.metadata.version("darkroom")


def _lines(family: Family, values: Mapping[tuple[str, ...], Mapping[str, float]]) -> Iterator[str]:
    if not values and not family.labels and (family.kind == "counter" or family.source == "worker"):
        yield f"{PREFIX}{family.name} 0.0"
    for labels, parts in sorted(values.items()):
        if family.kind != "histogram":
            yield f"{_sample(family, labels)} {parts['']!r}"
            continue
        count = 0.0
        for number, bucket in enumerate(_buckets(family, labels)):
            count += parts.get(str(number), 0.0)
            yield f"{bucket} {count!r}"
        yield f"{_sample(family, labels, '_count')} {count!r}"
        yield f"{_sample(family, labels, '_sum')} {parts.get(SUM, 0.0)!r}"


@lru_cache(maxsize=100_000)
def _buckets(family: Family, labels: tuple[str, ...]) -> tuple[str, ...]:
    bounds = [*(f"{bound:g}" for bound in family.buckets), "+Inf"]
    return tuple(_sample(family, labels, "_bucket", f'le="{bound}"') for bound in bounds)


@lru_cache(maxsize=100_000)
def _sample(family: Family, labels: tuple[str, ...], suffix: str = "", last: str = "") -> str:
    """Return the name and the labels of a sample, as they stand before its value."""
    named = [f'{name}="{str(text).translate(_ESCAPED)}"' for name, text in zip(family.labels, labels, strict=True)]
    inside = ",".join([*named, last] if last else named)
    return f"{PREFIX}{family.name}{suffix}" + (f"{{{inside}}}" if inside else "")
