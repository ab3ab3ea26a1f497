"""What the local engine makes of known damage: `python bench/quality.py [FOLDER...] [--only DAMAGE] [--each]`.

Without a folder: scikit-image's bundled photographs. Each damaged copy is a
JPEG of quality 92, goes through analysis, crop and treatment as a job does,
comes back as the result's JPEG at the photograph's own size, and is compared
with the undamaged original.
"""

import argparse
import statistics
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))

from bench import quality_damage as damage
from pipelines.analysis import Analysis
from pipelines.imaging.geometry import CropSuggestion, PixelBox, crop_box
from pipelines.imaging.header import DecodeLimits
from pipelines.options import AutoCropOptions, PromptOptions
from pipelines.prompts import corrections
from pipelines.providers.local.work import analysis_of, enhanced

LIMITS = DecodeLimits()
TARGETS = {
    "dark": "+10 dB",
    "cast": "+4 dB",
    "noise": "+2.5 dB, SSIM .70",
    "blur": "+1.2 dB",
    "letterbox": "exact, > 40 dB",
    "pillarbox": "exact, > 40 dB",
    "overexposed": "+1 dB",
    "low resolution": "-0.1 dB against Lanczos",
    "undamaged": ">= 40 dB, SSIM .98",
}


@dataclass(frozen=True, slots=True)
class Outcome:
    before_psnr: float
    after_psnr: float
    before_ssim: float
    after_ssim: float
    seconds: float
    treatments: tuple[str, ...]

    @property
    def gain(self) -> float:
        return self.after_psnr - self.before_psnr


def enhance(data: bytes, long_side_px: int) -> tuple[damage.Pixels, Analysis, tuple[str, ...]]:
    """Do what the stages of a job do, in this process."""
    analysis = analysis_of(data, LIMITS)
    box: PixelBox | None = None
    suggested = analysis.cropping.suggested_crop
    if analysis.cropping.is_cropping_needed and 1 - suggested.area_fraction >= AutoCropOptions().min_crop_ratio:
        height, width = damage.from_bytes(data).shape[:2]
        box = crop_box(CropSuggestion(suggested.x, suggested.y, suggested.width, suggested.height), width, height)
    result = enhanced(data, box, None, long_side_px, corrections(analysis, PromptOptions()), LIMITS)
    return damage.from_bytes(result.data), analysis, result.treatments


def outcome(name: str, original: damage.Pixels, quality: int = 92, subsampling: int = 0) -> Outcome:
    height, width = original.shape[:2]
    data = damage.as_jpeg(damage.DAMAGES[name](original), quality, subsampling)
    untouched = damage.from_bytes(data)
    if untouched.shape != original.shape:  # what a viewer without us would have: scaled by Lanczos
        untouched = np.asarray(cv2.resize(untouched, (width, height), interpolation=cv2.INTER_LANCZOS4), np.uint8)
    # an undamaged picture is held against what came in: how JPEG had changed it before isn't our doing
    reference = untouched if name == "undamaged" else original
    started = time.perf_counter()
    result, _, treatments = enhance(data, max(height, width))
    seconds = time.perf_counter() - started
    if result.shape != original.shape:
        result = np.asarray(cv2.resize(result, (width, height), interpolation=cv2.INTER_LANCZOS4), np.uint8)
    before = (original, untouched)
    return Outcome(
        damage.psnr(*before),
        damage.psnr(reference, result),
        damage.ssim(*before),
        damage.ssim(reference, result),
        seconds,
        treatments,
    )


def report(name: str, outcomes: list[Outcome]) -> None:
    def middle(values: list[float]) -> float:
        return statistics.median(values)

    gains = [o.gain for o in outcomes]
    worst = min(o.after_psnr for o in outcomes) if name == "undamaged" else min(gains)
    print(
        f"{name:15} {middle([o.before_psnr for o in outcomes]):5.1f} / {middle([o.before_ssim for o in outcomes]):.2f}"
        f"   {middle([o.after_psnr for o in outcomes]):5.1f} / {middle([o.after_ssim for o in outcomes]):.2f}"
        f"   {middle(gains):+6.1f}  {worst:+6.1f}   {middle([o.seconds for o in outcomes]):4.2f} s   {TARGETS[name]}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folders", nargs="*", type=Path)
    parser.add_argument("--only", choices=list(damage.DAMAGES))
    parser.add_argument("--each", action="store_true", help="a line for each photograph")
    arguments = parser.parse_args()
    paths = list(damage.photographs(arguments.folders)) or [damage.bundled_folder() / name for name in damage.BUNDLED]
    print(f"{len(paths)} photographs; medians; worst: gain, undamaged: its PSNR")
    print(f"{'damage':15} untouched      ours             gain   worst    time   target")
    for name in [arguments.only] if arguments.only else damage.DAMAGES:
        outcomes = []
        for path in paths:
            original = damage.load(path, 1024)
            outcomes.append(outcome(name, original))
            if arguments.each:
                o = outcomes[-1]
                print(f"    {path.name:28} {o.before_psnr:5.1f} {o.gain:+6.1f}  {o.after_psnr:5.1f}  {o.treatments}")
        report(name, outcomes)


if __name__ == "__main__":
    main()
