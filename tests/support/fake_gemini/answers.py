"""The answers of a working Gemini: an analysis, or a picture made from the one that it was sent."""

import base64
import io
import json
import re

from PIL import Image, ImageEnhance

ANALYSIS = {
    "mainSubject": "a photograph",
    "imageStyle": "photograph",
    "defects": {
        "isDark": True,
        "isBlurry": False,
        "hasNoise": False,
        "hasVHSArtifacts": False,
        "isLowResolution": False,
        "isOverexposed": False,
        "hasColorCast": False,
        "colorCastType": None,
    },
    "lightingCondition": "low light",
    "cropping": {
        "isCroppingNeeded": False,
        "suggestedCrop": {"x": 0, "y": 0, "width": 1, "height": 1},
        "cropReason": None,
    },
}
SIDES_PX = {None: 1024, "512": 512, "1K": 1024, "2K": 2048, "4K": 4096}
RATIO = re.compile(r"(\d+):(\d+)")


class BadRequestError(Exception):
    pass


def camel(value):
    """Take snake_case for camelCase, as the service does; what a schema calls its properties stays."""
    if isinstance(value, list):
        return [camel(part) for part in value]
    if not isinstance(value, dict):
        return value
    return {re.sub(r"_([a-z])", lambda m: m[1].upper(), key): camel(part) for key, part in value.items()}


def pictures_in(request):
    """Return the pictures of a request, decoded from base64 of either alphabet."""
    found = []
    for content in request.get("contents", []):
        for part in content.get("parts", []):
            if inline := part.get("inlineData"):
                text = inline["data"].replace("-", "+").replace("_", "/")
                try:
                    data = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
                    found.append(Image.open(io.BytesIO(data)).convert("RGB"))
                except (ValueError, OSError) as error:
                    raise BadRequestError("Unable to process input image.") from error
                if inline.get("mimeType") not in {"image/jpeg", "image/png", "image/webp"}:
                    raise BadRequestError(f"Unsupported MIME type: {inline.get('mimeType')}")
    return found


def answer_to(request):
    """Return candidate parts and usage for a request that works."""
    config = request.get("generationConfig", {})
    pictures = pictures_in(request)
    if config.get("responseMimeType") == "application/json":
        if "IMAGE" in config.get("responseModalities", []):
            raise BadRequestError("Image models don't answer in JSON")
        if not config.get("responseSchema") and not config.get("responseJsonSchema"):
            raise BadRequestError("No schema")
        return [{"text": json.dumps(ANALYSIS)}], usage(prompt=288, text=180)
    if any(name != name.upper() for name in config.get("responseModalities", [])):
        raise BadRequestError("responseModalities must be in capitals")
    image = config.get("imageConfig", {})
    if unknown := set(image) - {"aspectRatio", "imageSize"}:
        raise BadRequestError(f"Unknown name \"{unknown.pop()}\" at 'generation_config.image_config'")
    if image.get("imageSize") not in SIDES_PX:
        raise BadRequestError(f"Unsupported image size: {image.get('imageSize')}")
    picture = made(pictures, image.get("aspectRatio"), SIDES_PX[image.get("imageSize")])
    return [{"text": "Here it is."}, inline_part(picture)], usage(prompt=288, image=1120)


def made(pictures, ratio, side_px):
    """Brighten the first picture, or paint one, in the ratio asked for."""
    if ratio and not RATIO.fullmatch(ratio):
        raise BadRequestError(f"Invalid aspect ratio: {ratio}")
    across, down = map(int, ratio.split(":")) if ratio else pictures[0].size if pictures else (1, 1)
    size = (side_px, max(1, round(side_px * down / across)))
    if across < down:
        size = (max(1, round(side_px * across / down)), side_px)
    if pictures:
        return ImageEnhance.Brightness(pictures[0].resize(size)).enhance(1.2)
    return Image.linear_gradient("L").resize(size).convert("RGB")


def inline_part(picture, kind="JPEG", **traits):
    data = io.BytesIO()
    picture.save(data, kind)
    text = base64.b64encode(data.getvalue()).decode()
    return {"inlineData": {"mimeType": f"image/{kind.lower()}", "data": text}, **traits}


def usage(*, prompt, text=0, image=0, thoughts=0):
    return {
        "promptTokenCount": prompt,
        "candidatesTokenCount": text + image,
        "thoughtsTokenCount": thoughts,
        "totalTokenCount": prompt + text + image + thoughts,
        "candidatesTokensDetails": [{"modality": "IMAGE", "tokenCount": image}] if image else [],
    }
