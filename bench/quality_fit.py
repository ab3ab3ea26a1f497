"""Fit the local engine's small models: `python -m bench.quality_fit PHOTOGRAPHS [FOLDER...]`.

PHOTOGRAPHS is the folder that `bench.photographs` filled: its fitting group is
used, never the photographs held out for tests. The committed models had CBSD68, McMaster18 and
Kodak24 (public test sets of denoising and demosaicking papers) as further
folders. Needs scikit-learn, which nothing else here does. Writes
pipelines/providers/local/coefficients.py and cast_coefficients.py, and prints how well the scores tell damaged
from sound pictures on photographs that a fit didn't see. `--surplus` fits one score, on PHOTOGRAPHS alone as it is
committed; `bench.quality_fit_casts` fits the score of casts. `--reach` writes nothing: it prints how
much of the damage by light could be found, if given shares of the sound pictures were taken for damaged.
"""

import argparse
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from multiprocessing import Pool
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier

from bench import photographs, quality_sound
from bench import quality_damage as damage
from pipelines.providers.local import colour, exposure, light
from pipelines.providers.local.comb import Curve, comb_of
from pipelines.providers.local.scores import DEPTH, MODELS, Score, terms

Figures = NDArray[np.float64]
FOLDER = Path(__file__).parent.parent / "pipelines/providers/local"
TARGET, TARGET_OF_CASTS = FOLDER / "coefficients.py", FOLDER / "cast_coefficients.py"
SIDE_PX = 560
NO_PHOTOGRAPHS = {"autumn", "pastelhills", "string", "fossa", "retina", "text", "page", "coins", "starry_night"}
NO_PHOTOGRAPHS |= {"hubble_deep_field", "moon"}
"""Drawings, and pictures without usual light. They are sound pictures, but aren't damaged on purpose."""

HEAVY = {"natural": 2.0, "part": 2.0, "golden_hour": 1.5, "sunset": 1.5, "low_key": 1.5, "stage_lights": 1.5}
"""The weights of kinds of sound pictures that count more: the commonest, and those most similar to damage."""

TONED = ("sepia", "cyanotype", "interface", "chart", "line_art")
"""Kinds that other measures recognize as sound."""

TREES, LEARNING_RATE = 60, 0.12

CURVES = {"gamma": (Curve.GAMMA,), "under": (Curve.LACK,), "over": (Curve.LIGHT, Curve.GAIN)}
"""The combs that each kind of damage by light would leave in a histogram."""

SHARES = (0.0, 0.005, 0.01, 0.02)
"""Fractions of sound pictures that are wrongly found damaged, for which `--reach` computes the result."""


@dataclass(frozen=True, slots=True)
class Row:
    """One picture: its figures, the damage done to it, and the photograph from which it is made."""

    kind: str
    is_sound: bool
    photo: int
    exposure: Figures
    highlights: Figures
    answers: Figures
    cast: tuple[float, float]
    amount: float
    has_comb: tuple[bool, bool]
    """Whether the comb proves the damage: before the picture was a JPEG, and afterwards."""


def cast_of(gains: tuple[float, float, float]) -> tuple[float, float]:
    return float(np.log(gains[0] / gains[1])), float(np.log(gains[2] / gains[1]))


def damaged(photo: damage.Pixels, rng: np.random.Generator) -> Iterator[tuple[str, damage.Pixels, Any]]:
    for gamma in (2.5, rng.uniform(1.9, 2.9)):
        yield "gamma", damage.dark(photo, gamma), gamma
    for stops in (1.0, 2.0, rng.uniform(0.9, 2.3)):
        yield "under", damage.lit(photo, (2**-stops,) * 3), stops
    yield "over", damage.lit(photo, (2, 2, 2)), 1.0
    yield "over", damage.overexposed(photo), 1.5
    yield "over", damage.lit(photo, (rng.uniform(1.8, 2.6),) * 3), 1.0
    yield "cast", damage.cast(photo), cast_of((1.15**2.3, 1, 0.7**2.3))
    for gains in ((1.45, 1, 0.42), (0.42, 0.88, 1.9), (0.62, 1.25, 0.6)):
        yield "cast", damage.lit(photo, gains), cast_of(gains)
    for _ in range(2):
        gains = tuple(np.exp(rng.uniform(-0.7, 0.45, 3)))
        kind = "cast" if np.hypot(*cast_of(gains)) > 0.65 else "weak cast"
        yield kind, damage.lit(photo, gains), cast_of(gains)
    for gains in ((0.62, 0.95, 1.5), (0.85, 1.12, 0.8)):
        yield "weak cast", damage.lit(photo, gains), cast_of(gains)


def pictures_of(photo: damage.Pixels, name: str, seed: int) -> Iterator[tuple[str, damage.Pixels, Any]]:
    """Yield each picture that is made from a photograph, and the damage done to it; None for a sound one."""
    rng = np.random.default_rng(seed)
    yield "natural", photo, None
    if name in NO_PHOTOGRAPHS:
        return
    height, width = photo.shape[:2]
    y, x = (int(rng.integers(0, side // 3)) for side in (height, width))
    part = photo[y : y + height * 2 // 3, x : x + width * 2 // 3]
    yield "part", part, None
    yield "blurred", damage.blurred(photo), None
    for make in rng.permutation(np.array(quality_sound.OF_PHOTOGRAPHS, dtype=object))[:7]:
        yield make.__name__, damage.rounded(255 * make(photo / 255, rng)), None
    yield "stage_lights", damage.rounded(255 * quality_sound.stage_lights(photo / 255, rng)), None
    yield "low_key", damage.rounded(255 * quality_sound.low_key(photo / 255, rng)), None
    yield from damaged(photo, rng)
    yield from ((kind, pixels, done) for kind, pixels, done in damaged(part, rng) if rng.random() < 0.4)


def rows_of(numbered: tuple[int, Path | str], *, only_light: bool = False) -> list[Row]:
    """Make and measure the pictures of a photograph, or the drawn ones of a kind."""
    number, path = numbered
    if isinstance(path, str):
        make = getattr(quality_sound, path)
        made = [
            (path, damage.rounded(255 * make(np.zeros((1, 1, 3)), np.random.default_rng(900 + k))), None)
            for k in range(8)
        ]
    else:
        made = list(pictures_of(damage.load(path, SIDE_PX), path.stem, number))
    rng, rows = np.random.default_rng(number), []
    for kind, pixels, done in made:
        seen = damage.through_jpeg(pixels, int(rng.integers(88, 97)), int(rng.choice([0, 0, 2])))
        small = light.small_copy(seen)
        answers = np.zeros(0) if only_light else colour.cast_answers(seen)
        cast = done if isinstance(done, tuple) else (0.0, 0.0)
        amount = done if isinstance(done, float) else 0.0
        seconds = exposure.every_second(seen)
        figures = exposure.exposure_figures(seconds, small, exposure.white_level(seconds))
        highlights = exposure.highlight_figures(seen)
        combs = (False, False) if only_light else (has_comb(kind, pixels, amount), has_comb(kind, seen, amount))
        rows.append(Row(kind, done is None, number, figures, highlights, answers, cast, amount, combs))
    return rows


def has_comb(kind: str, pixels: damage.Pixels, stops: float) -> bool:
    near = 2**stops if kind == "under" else None
    return any(comb_of(light.level_counts(pixels), curve, near).is_clear for curve in CURVES.get(kind, ()))


def standard(figures: Figures) -> tuple[Figures, Figures]:
    return figures.mean(0), figures.std(0) + 1e-6


def design(figures: Figures, mean: Figures, scale: Figures, squared: tuple[int, ...]) -> Figures:
    return np.array([terms(row, mean, scale, squared) for row in figures])


def boosted(
    figures: Figures, labels: Figures, weights: Figures, trees: int = TREES, learning_rate: float = LEARNING_RATE
) -> Any:
    model = HistGradientBoostingClassifier(
        max_iter=trees,
        learning_rate=learning_rate,
        max_depth=DEPTH,
        min_samples_leaf=25,
        l2_regularization=1,
        random_state=0,
    )
    return model.fit(figures, labels, sample_weight=weights)


def unseen_scores(figures: Figures, rows: list[Row], found: str) -> tuple[Figures, Figures, Figures]:
    """Return which rows have this damage, their weights, and scores by five fits without the row's photograph."""
    labels = np.array([row.kind == found for row in rows])
    weights = np.array([HEAVY.get(row.kind, 1.0) if row.is_sound or row.kind == found else 0.5 for row in rows])
    folds = np.array([row.photo % 5 for row in rows])
    unseen = np.zeros(len(rows))
    for fold in range(5):
        out = folds == fold
        unseen[out] = boosted(figures[~out], labels[~out], weights[~out]).decision_function(figures[out])
    return labels, weights, unseen


def judged(rows: list[Row]) -> Figures:
    """Return which rows are sound and recognized as sound by no other measure."""
    return np.array([row.is_sound and row.kind not in TONED for row in rows])


def detector(figures: Figures, rows: list[Row], found: str, *, false_share: float) -> dict[str, Any]:
    """Fit a score that is above 0 for only `false_share` of the sound pictures that a fit didn't see."""
    labels, weights, unseen = unseen_scores(figures, rows, found)
    threshold = float(np.quantile(unseen[judged(rows)], 1 - false_share))
    by_kind: dict[str, list[bool]] = defaultdict(list)
    for row, score in zip(rows, unseen, strict=True):
        by_kind[row.kind].append(bool(score > threshold))
    told = {kind: f"{np.mean(passes):.2f}" for kind, passes in sorted(by_kind.items()) if np.mean(passes) > 0.005}
    print(f"{found}: threshold {threshold:.2f}; pass {told}", flush=True)
    return exported(boosted(figures, labels, weights), threshold)


def report_reach(rows: list[Row]) -> None:
    figures = with_highlights(rows)
    asked = " | ".join(f"{share:.1%} of the sound" for share in SHARES)
    print(f"| damage | n | proved by a comb, before JPEG | afterwards | found by likeness, at {asked} |")
    print("|" + "---|" * (4 + len(SHARES)))
    for found in CURVES:
        labels, _, unseen = unseen_scores(figures, rows, found)
        sound = np.sort(unseen[judged(rows)])[::-1]
        shares = [np.mean(unseen[labels] > sound[int(share * len(sound))]) for share in SHARES]
        proved = np.mean([row.has_comb for row in rows if row.kind == found], axis=0)
        cells = " | ".join(f"{share:.0%}" for share in [*proved, *shares])
        print(f"| {found} | {labels.sum()} | {cells} |", flush=True)
    print(f"\n{judged(rows).sum()} sound pictures.")


def exported(model: Any, threshold: float) -> dict[str, Any]:
    """Return scikit-learn's trees as complete trees: the comparisons that fill up a short branch change nothing."""
    asked, thresholds, answers = [], [], []
    for (predictor,) in model._predictors:  # noqa: SLF001 - it has no public form of its trees
        nodes, level = predictor.nodes, [0]
        for _ in range(DEPTH):
            below = []
            for index in level:
                node = nodes[index]
                asked.append(0 if node["is_leaf"] else int(node["feature_idx"]))
                thresholds.append(0.0 if node["is_leaf"] else float(node["num_threshold"]))
                below += [index, index] if node["is_leaf"] else [int(node["left"]), int(node["right"])]
            level = below
        answers += [float(nodes[index]["value"]) for index in level]
    start = float(model._baseline_prediction.ravel()[0]) - threshold  # noqa: SLF001 - as above
    return {"start": (start,), "figures": asked, "thresholds": thresholds, "answers": answers}


def estimator(figures: Figures, values: Figures, ridge: float, weights: Figures | None = None) -> dict[str, Any]:
    mean, scale = standard(figures)
    x = design(figures, mean, scale, ())
    w = np.ones(len(x)) if weights is None else weights
    beta = np.linalg.solve((x * w[:, None]).T @ x + ridge * np.eye(x.shape[1]), x.T @ (w * values))
    print(f"estimates within {np.sqrt(np.average((x @ beta - values) ** 2, weights=w)):.3f}")
    return {"mean": mean, "scale": scale, "squared": (), "weights": beta}


def fit_exposure(rows: list[Row]) -> dict[Score, dict[str, Any]]:
    figures = np.array([row.exposure for row in rows])
    dark = [place for place, row in enumerate(rows) if row.kind == "gamma"]
    gammas = np.log([rows[place].amount for place in dark])
    return {
        Score.DARK: detector(figures, rows, "gamma", false_share=0.015),
        Score.GAMMA: estimator(figures[dark], gammas, 10),
        Score.UNDEREXPOSED: detector(figures, rows, "under", false_share=0.01),
    } | fit_surplus(rows)


def with_highlights(rows: list[Row]) -> Figures:
    return np.array([np.concatenate([row.exposure, row.highlights]) for row in rows])


def fit_surplus(rows: list[Row]) -> dict[Score, dict[str, Any]]:
    return {Score.OVEREXPOSED: detector(with_highlights(rows), rows, "over", false_share=0.008)}


def fit_cast(rows: list[Row]) -> dict[Score, dict[str, Any]]:
    answers = np.array([row.answers for row in rows])
    known = [p for p, row in enumerate(rows) if row.kind in {"cast", "weak cast", "natural"}]
    # Pictures without a cast get low weights, or every estimate would be too close to none
    weights = np.array([{"cast": 1.0, "weak cast": 0.5, "natural": 0.2}[rows[place].kind] for place in known])
    values = np.array([rows[place].cast for place in known])
    return {
        Score.CAST_RED: estimator(answers[known], values[:, 0], 5, weights),
        Score.CAST_BLUE: estimator(answers[known], values[:, 1], 5, weights),
    }


def kept() -> dict[Score, dict[str, Any]]:
    """Return the models that the committed file contains."""
    return {Score(name): dict(model) for name, model in MODELS.items() if name in set(Score)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path, help="the photographs, and others to fit on")
    parser.add_argument("--reach", action="store_true", help="print what could be found, and write nothing")
    parser.add_argument("--surplus", action="store_true", help="fit the score of a surplus of light alone")
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    folders: list[Path] = arguments.folders
    paths: list[Path | str] = [row.path(folders[0]) for row in photographs.listed(photographs.FITTING)]
    paths += list(damage.photographs(folders[1:]))
    paths += [make.__name__ for make in quality_sound.DRAWN]
    with Pool() as pool:
        measured = partial(rows_of, only_light=arguments.surplus)
        rows = [row for made in pool.imap(measured, enumerate(paths)) for row in made]
    print(f"{len(paths)} photographs, {len(rows)} pictures", flush=True)
    if arguments.reach:
        report_reach(rows)
        return
    write(kept() | (fit_surplus(rows) if arguments.surplus else fit_exposure(rows) | fit_cast(rows)))


def write(models: dict[Score, dict[str, Any]]) -> None:
    """Write the models; the score of casts, the largest, has a file of its own."""
    write_to(TARGET, {score: model for score, model in models.items() if score is not Score.CAST})
    write_to(TARGET_OF_CASTS, {Score.CAST: models[Score.CAST]})


def write_to(target: Path, models: dict[Score, dict[str, Any]]) -> None:
    lines = ['"""Coefficients of the models in `scores`; written by bench/quality_fit.py, not by hand."""', ""]
    lines += ["# fmt: off", "COEFFICIENTS: dict[str, dict[str, tuple[float, ...]]] = {"]
    for score, model in models.items():
        lines.append(f'    "{score.value}": {{')
        for name, values in model.items():
            digits = 3 if len(values) > 300 else 4  # large sets of trees need fewer digits
            inner = ",".join(f"{value:.{digits}g}" for value in values)
            lines.append(f'        "{name}": (')
            lines += ["            " + line for line in (wrapped(inner) if inner else [])]
            lines.append("        ),")
        lines.append("    },")
    target.write_text("\n".join([*lines, "}", "# fmt: on", ""]))


def wrapped(numbers: str, width: int = 108) -> list[str]:
    """Return a list of numbers as lines, broken after commas."""
    lines = [""]
    for number in numbers.removesuffix(",").split(","):
        if len(lines[-1]) + len(number) + 1 > width:
            lines.append("")
        lines[-1] += number + ","
    return [line for line in lines if line]


if __name__ == "__main__":
    main()
