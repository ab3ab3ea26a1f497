"""Make the sample photographs again: `python samples/make.py`. Needs scikit-image, a development dependency."""

import sys
from pathlib import Path

from PIL import Image

sys.path.insert(0, str(Path(__file__).parent.parent))

from bench import quality_damage as damage

FOLDER = Path(__file__).parent

SAMPLES = {
    "dark": ("coffee.png", lambda pixels: damage.lit(pixels, (0.25, 0.25, 0.25))),
    "cast": ("astronaut.png", lambda pixels: damage.lit(pixels, (0.42, 0.88, 1.9))),
    "noisy": ("chelsea.png", lambda pixels: damage.noisy(pixels, 16)),
    "letterboxed": ("rocket.jpg", damage.letterboxed),
    "blurred": ("camera.png", damage.blurred),
}
"""Name -> photograph in scikit-image's wheel, and what is done to it."""


def main() -> None:
    """Write every sample."""
    for name, (photograph, hurt) in SAMPLES.items():
        pixels = hurt(damage.load(damage.bundled_folder() / photograph))
        Image.fromarray(pixels).save(FOLDER / f"{name}.jpg", quality=92, subsampling=0)


if __name__ == "__main__":
    main()
