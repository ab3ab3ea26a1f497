"""A fake Gemini in a process of its own, whose answers come after some seconds: `python -m bench.slow_gemini SECONDS`.

It prints its URL, and ends when its stdin is closed. Its pictures are made once per ratio, so that it takes little CPU.
"""

import json
import sys
from functools import cache

from PIL import Image

from tests.support.fake_gemini import answers
from tests.support.fake_gemini.server import FakeGemini, answered

DEFAULT_RATIO = "4:3"


@cache
def picture_part(ratio: str, size: str | None) -> dict:  # type: ignore[type-arg]
    across, down = map(int, ratio.split(":"))
    side_px = answers.SIDES_PX[size]
    width, height = (1.0, down / across) if across >= down else (across / down, 1.0)
    noise = Image.effect_noise((round(side_px * width), round(side_px * height)), 60)
    return answers.inline_part(noise.convert("RGB"))  # type: ignore[no-any-return]


def answer(request: dict) -> tuple[int, bytes, str]:  # type: ignore[type-arg]
    config = request.get("generationConfig", {})
    if config.get("responseMimeType") == "application/json":
        return answered({"text": json.dumps(answers.ANALYSIS)})  # type: ignore[no-any-return]
    image = config.get("imageConfig", {})
    part = picture_part(image.get("aspectRatio", DEFAULT_RATIO), image.get("imageSize"))
    return answered({"text": "Here it is."}, part)  # type: ignore[no-any-return]


def main() -> None:
    with FakeGemini(delay_s=float(sys.argv[1])) as gemini:
        gemini.answer = answer
        print(gemini.url, flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
