"""What a user would write instead for photographs: Celery, and Pillow in its task; or an image model's answer.

The job's row gets two updates, claim and completion, and nothing is charged, refunded or recorded. `enhanced` measures
light, colour, noise and sharpness with what Pillow has, treats only what it finds, and writes a picture of the same
size as Darkroom's. Its measures are plain means, which mistake far more sound pictures for damaged ones. `resized`
measures and treats nothing. `generated` sends the picture to Gemini twice, for an analysis and for the result, as
Darkroom does. Bytes aren't checked against limits, decoding happens in the worker's own process, and colour profiles
are ignored.
"""

import base64
import io
import json
import os
import urllib.request
from pathlib import Path

import celery.signals
import psycopg
from celery import Celery
from PIL import Image, ImageChops, ImageFilter, ImageOps, ImageStat

from bench.peers.steps import STEPS, database_url, redis_url, statement

LONG_SIDE_PX = 2048
SENT_SIDE_PX = 3072
QUALITY = 95

app = Celery("pictures", broker=redis_url().replace("unix://", "redis+socket://"))
app.conf.update(task_ignore_result=True, task_acks_late=True, worker_prefetch_multiplier=1)
connections: list[psycopg.Connection] = []

RESULT = """SET "geminiPrompt" = 'x', "enhancedR2Key" = 'x', "enhancedUrl" = 'x',"""


@celery.signals.worker_process_init.connect
@celery.signals.worker_ready.connect
def connect(**_: object) -> None:
    options = "-c session_replication_role=replica"
    if not connections:
        connections.append(psycopg.connect(database_url(), autocommit=True, options=options, prepare_threshold=1))


def saved(picture: Image.Image, quality: int = QUALITY) -> bytes:
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=quality, subsampling=0)
    return file.getvalue()


def opened(data: bytes) -> Image.Image:
    return ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB")


def fitted(picture: Image.Image, long_side_px: int = LONG_SIDE_PX) -> Image.Image:
    scale = long_side_px / max(picture.size)
    return picture.resize((round(picture.width * scale), round(picture.height * scale)), Image.Resampling.LANCZOS)


def resized(data: bytes) -> bytes:
    return saved(fitted(opened(data)))


def enhanced(data: bytes) -> bytes:
    """Measure the picture at full size as Darkroom does, treat what was found at the result's size, and encode it."""
    picture = opened(data)
    grey = picture.convert("L")
    box = grey.point(lambda level: 255 if level > 40 else 0).getbbox()  # black bars
    light, colour = ImageStat.Stat(grey), ImageStat.Stat(picture)
    small = fitted(picture.crop(box) if box and box != (0, 0, *picture.size) else picture)
    luma = small.convert("L")
    noise = ImageStat.Stat(ImageChops.difference(luma, luma.filter(ImageFilter.GaussianBlur(1)))).median[0]
    edges = ImageStat.Stat(luma.filter(ImageFilter.FIND_EDGES)).stddev[0]
    if noise > 6:
        small = small.filter(ImageFilter.MedianFilter(3))
    if light.mean[0] < 40 and light.extrema[0][1] < 200:
        small = ImageOps.autocontrast(small, cutoff=1)
    if max(colour.mean) > 1.6 * min(colour.mean):
        gains = [sum(colour.mean) / 3 / max(mean, 1) for mean in colour.mean]
        bands = [band.point(lambda v, g=gain: min(255, v * g)) for band, gain in zip(small.split(), gains, strict=True)]
        small = Image.merge("RGB", bands)
    if edges < 8:
        small = small.filter(ImageFilter.UnsharpMask(2, 120, 3))
    return saved(small)


def asked(model: str, sent: bytes, words: str, **config: object) -> dict:  # type: ignore[type-arg]
    image = {"inlineData": {"mimeType": "image/jpeg", "data": base64.b64encode(sent).decode()}}
    request = urllib.request.Request(  # noqa: S310 - the benchmark's own server
        f"{os.environ['GEMINI_BASE_URL']}/v1beta/models/{model}:generateContent",
        json.dumps({"contents": [{"parts": [image, {"text": words}]}], "generationConfig": config}).encode(),
        {"content-type": "application/json", "x-goog-api-key": "a-key"},
    )
    with urllib.request.urlopen(request, timeout=120) as answer:  # noqa: S310
        body = json.load(answer)
    found: dict = body["candidates"][0]["content"]  # type: ignore[type-arg]
    return found


def generated(data: bytes) -> bytes:
    sent = saved(fitted(opened(data), SENT_SIDE_PX), 92)
    asked("gemini-3.5-flash", sent, "analyze", responseMimeType="application/json", responseSchema={"type": "OBJECT"})
    config = {"responseModalities": ["IMAGE"], "imageConfig": {"imageSize": "2K"}}
    parts = asked("gemini-nano-banana-2.1", sent, "improve", **config)["parts"]
    answer = next(part["inlineData"]["data"] for part in parts if "inlineData" in part)
    return saved(fitted(opened(base64.b64decode(answer))))


WORK = {"resized": resized, "enhanced": enhanced, "generated": generated}


@app.task
def enhance(job: str, original: str) -> None:
    connections[0].execute(statement(STEPS[0], "%s"), [job])
    data = WORK[os.environ["WORK"]](Path(original).read_bytes())
    Path(original).with_name(f"{job}.jpg").write_bytes(data)
    completion = STEPS[-1].replace("SET", RESULT, 1)
    connections[0].execute(statement(completion, "%s"), [job])


def queue_jobs(prefix: str, count: int) -> None:
    """Queue the jobs `PREFIX1` to `PREFIXn`; the original of each is a file in the folder ORIGINALS."""
    for number in range(1, count + 1):
        enhance.delay(f"{prefix}{number}", str(Path(os.environ["ORIGINALS"]) / f"{number}.jpg"))
