"""Results of the local engine for sound and for damaged pictures.

`python -m bench.quality [PHOTOGRAPHS] [--strips OUT]`.

PHOTOGRAPHS is the folder of the photographs, to which missing ones are downloaded (`bench.photographs`); only those on
which nothing was fitted are used. Each picture is a JPEG of quality 92 that goes through analysis, crop and treatment
as in a job, and is compared with the truth, the undamaged picture. A sound picture's loss is counted against
re-encoding alone: the same steps without any correction. Results that miss their goal are written to OUT as strips:
truth, picture, result. docs/quality.md contains what this program prints.
"""

import argparse
import statistics
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from multiprocessing import Pool
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from bench import photographs, quality_sound
from bench import quality_damage as damage
from pipelines.analysis import Analysis
from pipelines.corrections import NO_CORRECTIONS
from pipelines.cropping import crop_box
from pipelines.imaging.geometry import PixelBox
from pipelines.imaging.header import DecodeLimits
from pipelines.options import AutoCropOptions, PromptOptions
from pipelines.prompts import corrections
from pipelines.providers.local.reading import analysis_of
from pipelines.providers.local.work import enhanced, findings_of

LIMITS = DecodeLimits()
SIDE_PX = 768
FOLDER = Path("build/photographs")

USUAL_LIGHT = (
    "kleiber", "friends", "picosdeeuropa", "leuvena", "fruits", "messi5", "home", "squirrel_cls", "robin",
    "scenetext04", "scenetext06", "chicky_512", "lion", "lunch", "horse_and_dog", "chelsea", "coffee",
    "motorcycle_left",
)  # fmt: skip
"""Held-out photographs in usual light: four sound pictures of other kinds are made of each, and one of one colour."""

DAMAGED_PHOTOGRAPHS = USUAL_LIGHT[::2]
"""The photographs to which every kind of damage is done."""

GOALS: dict[str, tuple[str, Callable[[list[float]], bool]]] = {}


def _median_of(least: float) -> tuple[str, Callable[[list[float]], bool]]:
    return f"median {least:+.1f} dB", lambda gains: statistics.median(gains) >= least


for _kind, _least in {
    "dark": 10, "cast": 4, "noise": 2.5, "blur": 1.2, "overexposed": 1, "two stops under": 5, "one stop under": 1.5,
    "one stop over": 1.5, "tungsten": 5, "strong blue": 5, "strong green": 5, "heavy noise": 4,
}.items():  # fmt: skip
    GOALS[_kind] = _median_of(_least)


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result for one picture: PSNR of the input, of the result and, if sound, of the re-encoded input.

    It also names the defects that were found and the treatments.
    """

    kind: str
    name: str
    before: float
    after: float
    alone: float
    ssim: float
    found: tuple[str, ...]
    treatments: tuple[str, ...]
    seconds: float
    is_cropped: bool = False
    is_exact: bool = False
    white_chroma: float | None = None
    strip: damage.Pixels | None = field(default=None, repr=False)

    @property
    def gain(self) -> float:
        return self.after - self.before

    @property
    def loss(self) -> float:
        return self.alone - self.after


def enhance(data: bytes, long_side_px: int) -> tuple[damage.Pixels, Analysis, tuple[str, ...]]:
    """Run the stages of a job in this process, and return the result, its analysis and its treatments."""
    analysis = analysis_of(findings_of(data, LIMITS))
    box: PixelBox | None = None
    suggested = analysis.cropping.suggested_crop
    if analysis.cropping.is_cropping_needed and 1 - suggested.area_fraction >= AutoCropOptions().min_crop_ratio:
        height, width = damage.from_bytes(data).shape[:2]
        box = crop_box(suggested, width, height)
    result = enhanced(data, box, None, long_side_px, corrections(analysis, PromptOptions()), LIMITS)
    return damage.from_bytes(result.data), analysis, result.treatments


def fitted_to(pixels: damage.Pixels, truth: damage.Pixels) -> damage.Pixels:
    """Scale by Lanczos, as a viewer does."""
    if pixels.shape == truth.shape:
        return pixels
    size = truth.shape[1::-1]
    return np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_LANCZOS4), np.uint8)


def outcome(kind: str, name: str, truth: damage.Pixels, data: bytes, *, is_sound: bool) -> Outcome:
    """Enhance a picture and compare the result with the truth; compare a sound picture also re-encoded alone."""
    seen = fitted_to(damage.from_bytes(data), truth)
    started = time.perf_counter()
    result, analysis, treatments = enhance(data, max(truth.shape[:2]))
    seconds = time.perf_counter() - started
    is_cropped, is_exact = analysis.cropping.is_cropping_needed, result.shape == truth.shape
    result = fitted_to(result, truth)
    alone = 0.0
    if is_sound:
        untreated = enhanced(data, None, None, max(truth.shape[:2]), NO_CORRECTIONS, LIMITS)
        alone = damage.psnr(truth, fitted_to(damage.from_bytes(untreated.data), truth))
    white = (truth.min(2) >= 235) & (np.ptp(truth, axis=2) <= 12) & (seen.max(2) >= 252)
    chroma = float(np.ptp(result[white].mean(0))) if white.mean() > 0.002 else None
    return Outcome(
        kind,
        name,
        damage.psnr(truth, seen),
        damage.psnr(truth, result),
        alone,
        damage.ssim(truth, result),
        tuple(sorted(defect.value for defect in analysis.defects.found())),
        treatments,
        seconds,
        is_cropped,
        is_exact,
        chroma,
        np.concatenate([truth, seen, result], axis=1),
    )


def sound_pictures(paths: dict[str, Path]) -> Iterator[tuple[str, str, damage.Pixels]]:
    """Yield kind, name and pixels: every held-out photograph as it is, others made of them, and drawn ones."""
    for name, path in paths.items():
        photo = damage.load(path, SIDE_PX)
        yield "as it is", name, photo
        rng = np.random.default_rng(zlib.crc32(name.encode()))
        if name in USUAL_LIGHT:
            for make in rng.permutation(np.array(quality_sound.OF_PHOTOGRAPHS, dtype=object))[:4]:
                yield make.__name__, name, damage.rounded(255 * make(photo / 255, rng))
            of_one = quality_sound.OF_ONE_COLOUR[USUAL_LIGHT.index(name) % len(quality_sound.OF_ONE_COLOUR)]
            yield of_one.__name__, name, damage.rounded(255 * of_one(photo / 255, rng))
    for make in quality_sound.DRAWN:
        for seed in range(2):
            yield make.__name__, str(seed), damage.rounded(255 * make(np.zeros((1, 1, 3)), np.random.default_rng(seed)))


def damaged_pictures(paths: dict[str, Path], only: str | None) -> Iterator[tuple[str, str, damage.Pixels, bytes]]:
    """Yield kind, name, truth and JPEG."""
    for name in DAMAGED_PHOTOGRAPHS:
        photo = damage.load(paths[name], SIDE_PX)
        for kind, hurt in (damage.DAMAGES | damage.CAMERA).items():
            if only in {None, kind} and kind != "undamaged":
                yield kind, name, photo, damage.as_jpeg(hurt(photo))
        if only in {None, "JPEG of quality 25"}:
            yield "JPEG of quality 25", name, photo, damage.as_jpeg(photo, 25)


def tried(task: tuple[str, str, damage.Pixels, bytes, bool]) -> Outcome:
    cv2.setNumThreads(1)
    kind, name, truth, data, is_sound = task
    return outcome(kind, name, truth, data, is_sound=is_sound)


def tasks(paths: dict[str, Path], only: str | None) -> Iterator[tuple[str, str, damage.Pixels, bytes, bool]]:
    if only in {None, "sound"}:
        for kind, name, truth in sound_pictures(paths):
            yield kind, name, truth, damage.as_jpeg(truth), True
    if only != "sound":
        for kind, name, truth, data in damaged_pictures(paths, None if only == "damaged" else only):
            yield kind, name, truth, data, False


def is_short(o: Outcome, *, is_sound: bool) -> bool:
    if is_sound:
        return o.loss > 3
    if o.kind in {"letterbox", "pillarbox"}:
        return not (o.is_cropped and o.is_exact)
    return o.gain < -1


def report_sound(outcomes: list[Outcome]) -> None:
    harmed = [o for o in outcomes if o.loss > 3]
    print(f"\n## {len(outcomes)} sound pictures\n")
    print("| | goal | is |\n|---|---|---|")
    print(f"| lose more than 3 dB | at most {len(outcomes) // 20} | {len(harmed)} |")
    print(f"| worst loss | at most 12 dB | {max(o.loss for o in outcomes):.1f} dB |")
    pushed = sum(o.after < 30 <= o.alone for o in outcomes)
    print(f"| pushed under 30 dB | 0 | {pushed} |")
    plain = [o.after for o in outcomes if o.kind == "as it is"]
    print(f"| median of photographs as they are | at least 40 dB | {statistics.median(plain):.1f} dB |")
    print("\n| sound picture | without treatment | result | found | done |\n|---|---|---|---|---|")
    for o in sorted(harmed, key=lambda o: -o.loss):
        said = f"{', '.join(o.found)} | {'; '.join(o.treatments)}{' cropped' if o.is_cropped else ''}"
        print(f"| {o.kind}, {o.name} | {o.alone:.1f} dB | {o.after:.1f} dB | {said} |")


def report_damage(outcomes: list[Outcome]) -> None:
    print("\n## Damaged pictures\n")
    print("| damage | n | before | after | median gain | worst gain | treated | goal | met |\n|" + "---|" * 9)
    kinds = list(dict.fromkeys(o.kind for o in outcomes))
    for kind in kinds:
        these = [o for o in outcomes if o.kind == kind]
        gains = [o.gain for o in these]
        goal, is_met = GOALS.get(kind, ("none worse by 1 dB", lambda gains: min(gains) >= -1))
        met = is_met(gains) and (min(gains) >= -1)
        if kind in {"letterbox", "pillarbox"}:
            goal, met = "bars exact", not any(is_short(o, is_sound=False) for o in these)
        before, after = statistics.median(o.before for o in these), statistics.median(o.after for o in these)
        treated = sum(bool(o.treatments) or o.is_cropped for o in these)
        print(
            f"| {kind} | {len(these)} | {before:.1f} | {after:.1f} | {statistics.median(gains):+.1f} "
            f"| {min(gains):+.1f} | {treated} | {goal} | {'yes' if met else 'no'} |"
        )
    for whose, are_treated in (("where a cast was removed", True), ("elsewhere", False)):
        chromas = [
            o.white_chroma
            for o in outcomes
            if o.white_chroma is not None and any("cast removed" in done for done in o.treatments) == are_treated
        ]
        if chromas:
            spread = f"median {statistics.median(chromas):.0f}, worst {max(chromas):.0f} levels"
            print(f"\nWhites that had clipped, spread of their channels {whose}: {spread}.")
    print("\n| worse by more than 1 dB | before | after | found | done |\n|---|---|---|---|---|")
    for o in sorted(outcomes, key=lambda o: o.gain):
        if o.gain < -1 and o.kind not in {"letterbox", "pillarbox"}:
            said = f"{', '.join(o.found)} | {'; '.join(o.treatments)}"
            print(f"| {o.kind}, {o.name} | {o.before:.1f} dB | {o.after:.1f} dB | {said} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photographs", nargs="?", type=Path, default=FOLDER)
    parser.add_argument("--only", help="sound, damaged, or one kind of damage")
    parser.add_argument("--strips", type=Path, help="where before/after strips of what falls short go")
    parser.add_argument("--each", action="store_true", help="a line for each picture")
    arguments = parser.parse_args()
    paths = photographs.fetch(arguments.photographs, photographs.HELD_OUT)
    with Pool() as pool:
        outcomes = list(pool.imap(tried, tasks(paths, arguments.only), 2))
    is_sound = {id(o): o.alone > 0 for o in outcomes}
    for o in outcomes:
        if arguments.each:
            print(f"{o.kind:22} {o.name:18} {o.before:5.1f} {o.alone:5.1f} {o.after:5.1f} {o.found} {o.treatments}")
        if arguments.strips is not None and o.strip is not None and is_short(o, is_sound=is_sound[id(o)]):
            arguments.strips.mkdir(parents=True, exist_ok=True)
            Image.fromarray(o.strip).save(arguments.strips / f"{o.kind}-{o.name}.jpg".replace(" ", "_"))
    for report, wanted in ((report_sound, True), (report_damage, False)):
        these = [o for o in outcomes if is_sound[id(o)] is wanted]
        if these:
            report(these)
    print(f"\nMedian time for analysis and result: {statistics.median(o.seconds for o in outcomes):.2f} s.")


if __name__ == "__main__":
    main()
