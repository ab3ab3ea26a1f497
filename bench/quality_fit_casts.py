"""Fit the score that tells colour casts: `python -m bench.quality_fit_casts PHOTOGRAPHS`.

PHOTOGRAPHS is the folder that `bench.photographs` filled: its fitting group is used, never the photographs held out for
tests. Every kind of sound picture and about eighteen casts are made of each. Run it after `bench.quality_fit`, whose
estimates of a cast it uses. It writes pipelines/providers/local/cast_coefficients.py, and prints how many sound
pictures and casts pass in fits that didn't see their photograph. The committed score is the mean of this fit's score
and of an older one. Needs scikit-learn.
"""

import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing import Pool
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from bench import photographs, quality_sound
from bench import quality_damage as damage
from bench.quality_fit import HEAVY, NO_PHOTOGRAPHS, SIDE_PX, Figures, boosted, cast_of, exported, kept, write
from pipelines.providers.local import colour, light
from pipelines.providers.local.kind import is_drawn, is_toned
from pipelines.providers.local.measure import LEAST_CAST
from pipelines.providers.local.scores import DEPTH, Score

TREES, LEARNING_RATE = 150, 0.1

FALSE_SHARE = 0.0086
"""The fraction of sound pictures that may be taken for casts by this fit and the other tests of a cast together. It is
the older fit's (decision 0142)."""

OLDER_TREES, OLDER_START = 60, -2.416
"""The first trees of the committed score, whose answers are halved, and the start that belongs to them: a fit that had
seen CBSD68, McMaster18 and Kodak24 as well."""

STRONG, STRONGEST = 0.65, 1.4
"""The strengths of the casts to be found, as natural logarithms of linear light."""

OF_PARTS = (
    "golden_hour",
    "split_toned",
    "sepia",
    "stage_lights",
    "silhouette",
    "dusk",
    "underwater",
    "flowers",
    "blue_haze",
)
"""Kinds of sound pictures with coloured light, which are also made of a part of each photograph."""


@dataclass(frozen=True, slots=True)
class Row:
    """One picture: its kind, its photograph, its evidence, and whether the other tests of a cast let it pass."""

    kind: str
    is_sound: bool
    photo: int
    evidence: Figures
    may_pass: bool


def casts(photo: damage.Pixels, rng: np.random.Generator, count: int) -> Iterator[tuple[str, damage.Pixels]]:
    """Yield the casts of `bench.quality`, so many others at random, and two weak ones."""
    yield "cast", damage.cast(photo)
    for hurt in ("tungsten", "strong blue", "strong green"):
        yield "cast", damage.CAMERA[hurt](photo)
    while count:
        red, green, blue = np.exp(rng.uniform(-0.9, 0.55, 3))
        strength = np.hypot(*cast_of((red, green, blue)))
        if strength <= STRONGEST:
            count -= 1
            yield "cast" if strength > STRONG else "weak cast", damage.lit(photo, (red, green, blue))
    for hurt in ("weak blue", "fluorescent"):
        yield "weak cast", damage.CAMERA[hurt](photo)


def pictures_of(photo: damage.Pixels, name: str, seed: int) -> Iterator[tuple[str, damage.Pixels, bool]]:
    """Yield kind, pixels and whether it is sound, for each picture that is made from a photograph."""
    rng = np.random.default_rng(seed)
    yield "natural", photo, True
    height, width = photo.shape[:2]
    corners = [(int(rng.integers(0, height // 3)), int(rng.integers(0, width // 3))) for _ in range(2)]
    parts = [photo[y : y + height * 2 // 3, x : x + width * 2 // 3] for y, x in corners]
    parts.append(photo[height // 4 : height // 4 + height // 2, width // 4 : width // 4 + width // 2])
    for part in parts:
        yield "part", np.ascontiguousarray(part), True
    if name in NO_PHOTOGRAPHS:
        return
    yield "blurred", damage.blurred(photo), True
    for make in quality_sound.OF_PHOTOGRAPHS + quality_sound.OF_ONE_COLOUR:
        for source in (photo, parts[0]) if make.__name__ in OF_PARTS else (photo,):
            yield make.__name__, damage.rounded(255 * make(source / 255, rng)), True
    for source, count in ((photo, 8), (parts[0], 4)):
        yield from ((kind, pixels, False) for kind, pixels in casts(source, rng, count))
    yield "gamma", damage.dark(photo, 2.3), False
    yield "under", damage.lit(photo, (0.4, 0.4, 0.4)), False
    yield "over", damage.lit(photo, (2, 2, 2)), False


def rows_of(numbered: tuple[int, Path | str]) -> list[Row]:
    """Make and measure the pictures of a photograph, or the drawn ones of a kind."""
    cv2.setNumThreads(1)
    number, path = numbered
    if isinstance(path, str):
        make, empty = getattr(quality_sound, path), np.zeros((1, 1, 3))
        drawn = (damage.rounded(255 * make(empty, np.random.default_rng(900 + k))) for k in range(8))
        made = [(path, pixels, True) for pixels in drawn]
    else:
        made = list(pictures_of(damage.load(path, SIDE_PX), path.stem, number))
    rng, rows = np.random.default_rng(number), []
    for kind, pixels, is_sound in made:
        seen = damage.through_jpeg(pixels, int(rng.integers(88, 97)), int(rng.choice([0, 0, 2])))
        small = light.small_copy(seen)
        answers = colour.cast_answers(small)
        cast = colour.estimated_cast(answers)
        evidence = colour.evidence_of(light.small_copy(seen, colour.SIDE_PX), answers, cast)
        is_intended = colour.is_grey(small) or is_toned(small) or is_drawn(seen)
        may_pass = np.hypot(*cast) >= LEAST_CAST and colour.is_confirmed(answers, cast) and not is_intended
        rows.append(Row(kind, is_sound, number, evidence, bool(may_pass)))
    return rows


def fit(rows: list[Row]) -> dict[str, Any]:
    """Fit the score, and set its threshold so that of the sound pictures FALSE_SHARE pass that a fit didn't see."""
    figures, is_cast = np.array([row.evidence for row in rows]), np.array([row.kind == "cast" for row in rows])
    weights = np.array([HEAVY.get(row.kind, 1.0) if row.is_sound or row.kind == "cast" else 0.5 for row in rows])
    folds, unseen = np.array([row.photo % 5 for row in rows]), np.zeros(len(rows))
    for fold in range(5):
        out = folds == fold
        model = boosted(figures[~out], is_cast[~out], weights[~out], TREES, LEARNING_RATE)
        unseen[out] = model.decision_function(figures[out])
    may_pass, is_sound = (np.array([getattr(row, name) for row in rows]) for name in ("may_pass", "is_sound"))
    threshold = float(np.sort(unseen[may_pass & is_sound])[::-1][int(FALSE_SHARE * is_sound.sum())])
    passes = may_pass & (unseen > threshold)
    kinds = Counter(row.kind for row, is_false in zip(rows, passes & is_sound, strict=True) if is_false)
    print(f"threshold {threshold:.2f}: {passes[is_cast].mean():.0%} of {is_cast.sum()} casts pass, and of", end=" ")
    print(f"{is_sound.sum()} sound pictures {passes[is_sound].mean():.2%}: {dict(kinds)}", flush=True)
    return exported(boosted(figures, is_cast, weights, TREES, LEARNING_RATE), threshold)


def with_older(newer: dict[str, Any]) -> dict[str, Any]:
    """Return the score that is the mean of the older fit's and of this one's."""
    older, inner = kept()[Score.CAST], 2**DEPTH - 1
    return {
        "start": ((OLDER_START + newer["start"][0]) / 2,),
        "figures": [*map(int, older["figures"][: OLDER_TREES * inner]), *newer["figures"]],
        "thresholds": [*older["thresholds"][: OLDER_TREES * inner], *newer["thresholds"]],
        "answers": [*older["answers"][: OLDER_TREES * (inner + 1)], *(answer / 2 for answer in newer["answers"])],
    }


def main() -> None:
    folder = Path(sys.argv[1])
    paths: list[Path | str] = [row.path(folder) for row in photographs.listed(photographs.FITTING)]
    paths += [make.__name__ for make in quality_sound.DRAWN]
    with Pool() as pool:
        rows = [row for made in pool.imap(rows_of, enumerate(paths)) for row in made if row.kind != "weak cast"]
    write(kept() | {Score.CAST: with_older(fit(rows))})


if __name__ == "__main__":
    main()
