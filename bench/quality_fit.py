"""Fit the local engine's small models on folders of photographs: `python bench/quality_fit.py FOLDER...`.

Writes pipelines/providers/local/coefficients.py. The committed ones were
fitted on CBSD68, McMaster18 and Kodak24 (public test sets of denoising and
demosaicking papers) and scikit-image's photographs that `BUNDLED` marks. How well
the scores tell is printed for photographs that a fit didn't see.
"""

import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).parent.parent))

from bench import quality_damage as damage
from pipelines.providers.local import colour, exposure, noise
from pipelines.providers.local.scores import Score, terms

Figures = NDArray[np.float64]
RNG = np.random.default_rng(4)
TARGET = Path(__file__).parent.parent / "pipelines/providers/local/coefficients.py"


def crops(pixels: damage.Pixels, count: int) -> list[damage.Pixels]:
    height, width = pixels.shape[:2]
    parts = [pixels]
    for _ in range(count):
        part = RNG.uniform(0.5, 0.9)
        h, w = int(height * part), int(width * part)
        y, x = RNG.integers(0, height - h + 1), RNG.integers(0, width - w + 1)
        parts.append(pixels[y : y + h, x : x + w])
    return parts


def spotlit(pixels: damage.Pixels) -> damage.Pixels:
    """Make a low-key picture: a subject in the light, the rest falling into the dark, and nothing wrong with it."""
    height, width = pixels.shape[:2]
    y, x = np.mgrid[0:height, 0:width]
    cy, cx = RNG.uniform(0.3, 0.7, 2)
    distance = np.hypot((y / height - cy), (x / width - cx)) / RNG.uniform(0.25, 0.45)
    light = np.maximum(np.exp(-(distance**2)), RNG.uniform(0.0, 0.15))[..., None]
    return damage.rounded(255 * ((pixels / 255) ** 2.2 * light) ** (1 / 2.2))


def on_white(pixels: damage.Pixels) -> damage.Pixels:
    """Put a picture on white paper."""
    height, width = pixels.shape[:2]
    paper = np.full_like(pixels, 255)
    small = cv2.resize(pixels, (width * 2 // 3, height * 2 // 3), interpolation=cv2.INTER_AREA)
    paper[height // 6 : height // 6 + small.shape[0], width // 6 : width // 6 + small.shape[1]] = small
    return paper


def turned(pixels: damage.Pixels) -> damage.Pixels:
    """Turn every hue by the same random angle: other dominant colours, and what is neutral stays neutral."""
    hsv = cv2.cvtColor(pixels.astype(np.float32) / 255, cv2.COLOR_RGB2HSV)
    hsv[..., 0] = (hsv[..., 0] + RNG.uniform(30, 330)) % 360
    return damage.rounded(255 * np.asarray(cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)))


def jpeg(pixels: damage.Pixels) -> damage.Pixels:
    return damage.through_jpeg(pixels, int(RNG.integers(86, 98)), int(RNG.choice([0, 2])))


def standard(figures: Figures) -> tuple[Figures, Figures]:
    return figures.mean(0), figures.std(0) + 1e-6


def design(figures: Figures, mean: Figures, scale: Figures, squared: tuple[int, ...]) -> Figures:
    return np.array([terms(row, mean, scale, squared) for row in figures])


def logistic(x: Figures, is_damaged: Figures, weights: Figures, ridge: float) -> Figures:
    """Fit by Newton's method."""
    beta = np.zeros(x.shape[1])
    penalty = 2 * ridge * np.eye(x.shape[1])
    penalty[0, 0] = 0
    weights = weights / weights.sum()
    for _ in range(60):
        p = 1 / (1 + np.exp(-np.clip(x @ beta, -30, 30)))
        gradient = x.T @ (weights * (p - is_damaged)) + penalty @ beta
        hessian = (x * (weights * (p * (1 - p) + 1e-4))[:, None]).T @ x + penalty
        step = np.linalg.solve(hessian, gradient)
        beta -= step * min(1.0, 3 / max(np.abs(step).max(), 1e-9))
    return beta


@dataclass(frozen=True, slots=True)
class Row:
    """One picture's figures: whether it has the defect, how much it counts, and which photograph it is made of."""

    figures: Figures
    is_damaged: bool
    weight: float
    photo: int


def sound(figures: Figures, weight: float, photo: int) -> Row:
    return Row(figures, is_damaged=False, weight=weight, photo=photo)


def damaged(figures: Figures, photo: int) -> Row:
    return Row(figures, is_damaged=True, weight=1.0, photo=photo)


def detector(rows: list[Row], squared: tuple[int, ...], *, threshold: float, ridge: float) -> dict[str, Any]:
    """Fit a score with 0 at `threshold`, and print how it does on photographs that a fit didn't see (five folds)."""
    figures = np.array([row.figures for row in rows])
    labels = np.array([float(row.is_damaged) for row in rows])
    weights, photos = np.array([row.weight for row in rows]), np.array([row.photo for row in rows])
    mean, scale = standard(figures)
    x = design(figures, mean, scale, squared)
    unseen = np.zeros(len(rows))
    for fold in range(5):
        out = photos % 5 == fold
        unseen[out] = x[out] @ logistic(x[~out], labels[~out], weights[~out], ridge)
    passes = unseen > threshold
    is_whole = (labels == 0) & (weights == weights[labels == 0].max())
    print(
        f"  finds {passes[labels == 1].mean():.1%} of {int(labels.sum())}, falsely {passes[is_whole].mean():.1%} of "
        f"{is_whole.sum()} photographs, {passes[(labels == 0) & ~is_whole].mean():.1%} of what was made to deceive it",
        flush=True,
    )
    beta = logistic(x, labels, weights, ridge)
    beta[0] -= threshold
    return {"mean": mean, "scale": scale, "squared": squared, "weights": beta}


def estimator(figures: Figures, values: Figures, ridge: float) -> dict[str, Any]:
    mean, scale = standard(figures)
    x = design(figures, mean, scale, ())
    beta = np.linalg.solve(x.T @ x + ridge * np.eye(x.shape[1]), x.T @ values)
    print(f"  estimates within {np.sqrt(np.mean((x @ beta - values) ** 2)):.3f}")
    return {"mean": mean, "scale": scale, "squared": (), "weights": beta}


def fit_exposure(photos: list[damage.Pixels]) -> dict[Score, dict[str, Any]]:
    dark_rows, blown_rows, gamma_rows, gammas = [], [], [], []

    def look(pixels: damage.Pixels) -> Figures:
        return exposure.exposure_figures(exposure.small_copy(jpeg(pixels)))

    for number, photo in enumerate(photos):
        for place, part in enumerate(crops(photo, 2)):
            weight = 4.0 if place == 0 else 1.5
            good = [
                (look(part), weight),
                (look(spotlit(part)), weight / 3),
                (look(damage.dark(part, 1.15)), weight / 3),
            ]
            good += [(look(damage.noisy(part)), weight / 4), (look(damage.blurred(part)), weight / 4)]
            good += [(look(damage.cast(part)), weight / 4), (look(turned(part)), weight / 3)]
            dark_rows += [sound(figures[: exposure.LIGHT_FIGURES], w, number) for figures, w in good]
            blown_rows += [sound(figures, w, number) for figures, w in good]
            for other in (on_white(part), on_white(damage.dark(part, 0.7)), damage.dark(part)):
                blown_rows.append(sound(look(other), weight / 3, number))
            for gamma in (1.8, 2.0, 2.2, 2.5, 2.8, 3.2):
                figures = look(damage.dark(part, gamma))[: exposure.LIGHT_FIGURES]
                gamma_rows.append(figures)
                gammas.append(np.log(gamma))
                if gamma > 1.9:
                    dark_rows.append(damaged(figures, number))
            blown_rows += [damaged(look(damage.overexposed(part, gain)), number) for gain in (1.5, 1.6, 1.8)]
            dark_rows.append(sound(look(damage.overexposed(part))[: exposure.LIGHT_FIGURES], weight / 4, number))
    print("dark, gamma, overexposed")
    return {
        Score.DARK: detector(dark_rows, (0, 3, 5, 7, 9, 10, 14), threshold=0.8, ridge=1e-3),
        Score.GAMMA: estimator(np.array(gamma_rows), np.array(gammas), 10),
        Score.OVEREXPOSED: detector(blown_rows, (0, 1, 2, 16, 17, 18, 20), threshold=2.5, ridge=3e-3),
    }


def fit_cast(photos: list[damage.Pixels]) -> dict[Score, dict[str, Any]]:
    rows, figures, gains = [], [], []
    choices = [(0.8, 1, 1.2), (1.2, 1, 0.85), (0.85, 1, 0.85), (1, 1, 0.7), (0.75, 1, 1), (1.15, 1, 0.8), (0.9, 1, 1.3)]

    def look(pixels: damage.Pixels) -> Figures:
        return colour.cast_figures(exposure.small_copy(jpeg(pixels)))

    for number, photo in enumerate(photos):
        if colour.is_grey(photo):
            continue
        for place, part in enumerate([*crops(photo, 1), turned(photo), turned(photo)]):
            weight = 6.0 if place == 0 else 3.0
            rows += [sound(look(part), weight, number), sound(look(damage.noisy(part)), weight / 6, number)]
            rows += [sound(look(damage.blurred(part)), weight / 6, number)]
            rows += [sound(look(other), weight / 4, number) for other in (damage.overexposed(part), spotlit(part))]
            for chosen in [(1.15, 1, 0.7), (1.15, 1, 0.7), *(choices[k] for k in RNG.permutation(len(choices))[:3])]:
                figures.append(look(damage.cast(part, chosen)))
                gains.append(np.log([chosen[0], chosen[2]]))
                rows.append(damaged(figures[-1], number))
    print("cast, red, blue")
    values = np.array(gains)
    return {
        Score.CAST: detector(rows, (0, 1, 4, 5, 8, 9, 12, 13, 16, 17), threshold=1.2, ridge=1e-3),
        Score.CAST_RED: estimator(np.array(figures), values[:, 0], 10),
        Score.CAST_BLUE: estimator(np.array(figures), values[:, 1], 10),
    }


def fit_noise(photos: list[damage.Pixels]) -> dict[Score, dict[str, Any]]:
    rows = []

    def look(pixels: damage.Pixels) -> Figures:
        ycc = cv2.cvtColor(jpeg(pixels), cv2.COLOR_RGB2YCrCb)
        return noise.noise_figures(ycc[..., 0], ycc[..., 1])

    for number, photo in enumerate(photos):
        for place, part in enumerate(crops(photo, 1)):
            weight = 8.0 if place == 0 else 4.0
            twice = cv2.resize(part, None, fx=2, fy=2, interpolation=cv2.INTER_LANCZOS4)
            half = cv2.resize(part, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
            good = [(part, weight), (damage.noisy(part, 3), weight / 2), (np.asarray(half), weight / 2)]
            good += [(other, weight / 4) for other in (damage.blurred(part), np.asarray(twice), damage.dark(part))]
            good += [(damage.overexposed(part), weight / 4)]
            rows += [sound(look(pixels), w, number) for pixels, w in good]
            grain = damage.rounded(part + RNG.normal(0, RNG.uniform(8, 20), (*part.shape[:2], 1)))
            bad = [*(damage.noisy(part, sigma) for sigma in (10, 12, 15, 15, 20, 25)), grain]
            rows += [damaged(look(pixels), number) for pixels in bad]
    print("noise")
    return {Score.NOISY: detector(rows, (0, 1, 3, 4, 6), threshold=1.5, ridge=1e-3)}


def main() -> None:
    folders = [Path(name) for name in sys.argv[1:]]
    paths = list(damage.photographs(folders))
    paths += [damage.bundled_folder() / name for name, is_fitted in damage.BUNDLED.items() if is_fitted]
    photos = [damage.load(path, 560) for path in paths]
    print(f"{len(photos)} photographs")
    models = fit_exposure(photos) | fit_cast(photos) | fit_noise(photos)
    write(models)


def write(models: dict[Score, dict[str, Any]]) -> None:
    lines = ['"""Coefficients of the models in `scores`; written by bench/quality_fit.py, not by hand."""', ""]
    lines += ["# fmt: off", "COEFFICIENTS: dict[str, dict[str, tuple[float, ...]]] = {"]
    for score, model in models.items():
        lines.append(f'    "{score.value}": {{')
        for name, values in model.items():
            inner = ", ".join(f"{value:.4g}" for value in values) + ("," if len(values) == 1 else "")
            lines += [
                f'        "{name}": (',
                *textwrap.wrap(inner, 108, initial_indent=" " * 12, subsequent_indent=" " * 12),
            ]
            lines.append("        ),")
        lines.append("    },")
    TARGET.write_text("\n".join([*lines, "}", "# fmt: on", ""]))


if __name__ == "__main__":
    main()
