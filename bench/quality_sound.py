"""Pictures that are dark, bright or coloured but have no defect: made from photographs, or drawn.

Each function returns height x width x 3, sRGB, 0 to 1. Light is added and filtered in linear light. The same seed
gives the same picture.
"""

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from pipelines.imaging.profiles import linear_to_srgb, srgb_to_linear

Values = NDArray[np.float64]
Make = Callable[[Values, np.random.Generator], Values]


def low_key(photo: Values, rng: np.random.Generator) -> Values:
    y, x = _grid(photo)
    cy, cx, sy, sx = *rng.uniform(0.35, 0.65, 2), *rng.uniform(0.22, 0.4, 2)
    spot = np.exp(-(((x - cx) / sx) ** 2) - ((y - cy) / sy) ** 2)[..., None]
    return linear_to_srgb(srgb_to_linear(photo) * (spot * rng.uniform(0.9, 1.2) + rng.uniform(0, 0.02)))


def stage_lights(photo: Values, rng: np.random.Generator) -> Values:
    y, x = _grid(photo)
    grey = srgb_to_linear(photo).mean(2, keepdims=True)
    lamps = np.array([[2.0, 0.2, 0.35], [0.25, 0.25, 2.2], [1.9, 1.1, 0.2], [0.2, 1.6, 0.7], [1.5, 0.2, 1.7]])
    light = np.full((*photo.shape[:2], 3), 0.01)
    for lamp in rng.permutation(lamps)[:2]:
        cy, cx, size = rng.uniform(0.3, 0.7), rng.uniform(0.15, 0.85), rng.uniform(0.16, 0.3)
        light += np.exp(-((x - cx) ** 2 + (y - cy) ** 2) / size**2)[..., None] * lamp
    return linear_to_srgb(grey * light)


def theatre(photo: Values, rng: np.random.Generator) -> Values:
    """Return a lit part of the photograph on black, with uneven sides."""
    y, x = _grid(photo)
    edge = 0.25 + 0.03 * np.sin(y * rng.uniform(5, 9)) + 0.02 * np.sin(y * 31)
    return photo * 0.92 * ((x > edge) & (x < 1 - edge))[..., None] + 0.012


def golden_hour(photo: Values, rng: np.random.Generator) -> Values:
    light = srgb_to_linear(photo)
    lit = np.clip(light.mean(2, keepdims=True) * rng.uniform(1.6, 2.4), 0, 1)
    warm, cool = np.array([1.3, 0.85, rng.uniform(0.42, 0.6)]), np.array([0.7, 0.72, 0.9])
    return linear_to_srgb(light * (lit * warm + (1 - lit) * cool))


def silhouette(photo: Values, rng: np.random.Generator) -> Values:
    sky = photo * np.array([0.95, rng.uniform(0.5, 0.62), rng.uniform(0.35, 0.6)])
    return np.where((photo.mean(2) < np.quantile(photo.mean(2), 0.55))[..., None], 0.025, sky)


def sepia(photo: Values, rng: np.random.Generator) -> Values:
    grey = photo.mean(2, keepdims=True)
    return np.clip(grey * np.array([1.02, rng.uniform(0.86, 0.92), rng.uniform(0.66, 0.76)]) + [0.04, 0.02, 0.0], 0, 1)


def cyanotype(photo: Values, rng: np.random.Generator) -> Values:
    grey = photo.mean(2, keepdims=True)
    return np.array([0.05, 0.16, rng.uniform(0.3, 0.4)]) * (1 - grey) + np.array([0.88, 0.94, 0.97]) * grey


def split_toned(photo: Values, _: np.random.Generator) -> Values:
    grey = photo.mean(2, keepdims=True)
    return np.clip(grey + (1 - grey) * np.array([-0.02, 0.03, 0.10]) + grey * np.array([0.06, 0.01, -0.12]), 0, 1)


def high_key(photo: Values, rng: np.random.Generator) -> Values:
    floor = rng.uniform(0.3, 0.5)
    return np.clip(
        floor + (1 - floor) * linear_to_srgb(srgb_to_linear(photo) * rng.uniform(1.2, 1.6)) ** 0.85, 0, 0.995
    )


def on_white(photo: Values, rng: np.random.Generator) -> Values:
    y, x = _grid(photo)
    inside = ((x - 0.5) / rng.uniform(0.25, 0.35)) ** 4 + ((y - 0.5) / 0.34) ** 4 < 1
    shadow = 1 - 0.3 * np.exp(-(((x - 0.53) / 0.32) ** 2) - ((y - 0.84) / 0.05) ** 2)[..., None]
    return np.where(inside[..., None], photo, np.ones_like(photo) * shadow)


def fog(photo: Values, rng: np.random.Generator) -> Values:
    veil = np.linspace(rng.uniform(0.1, 0.2), rng.uniform(0.4, 0.6), photo.shape[0])[:, None, None]
    return photo * veil + np.array([0.78, 0.80, 0.81]) * (1 - veil)


def underwater(photo: Values, rng: np.random.Generator) -> Values:
    depth = np.linspace(rng.uniform(1.0, 1.5), 0.6, photo.shape[0])[:, None, None]
    veil = np.array([0.02, 0.2, 0.18]) * (1 - np.exp(-depth * 0.8))
    return linear_to_srgb(srgb_to_linear(photo) * np.exp(-depth * np.array([1.4, 0.35, 0.4])) + veil)


def dusk(photo: Values, rng: np.random.Generator) -> Values:
    """The blue hour: little light, blue, and lamps that are white or warm."""
    light = srgb_to_linear(photo) * np.array([0.10, 0.14, 0.26]) * rng.uniform(0.8, 1.4)
    lamps = np.zeros(photo.shape[:2])
    for _ in range(14):
        y, x = rng.integers(photo.shape[0] // 3, photo.shape[0] - 8), rng.integers(8, photo.shape[1] - 8)
        cv2.circle(lamps, (int(x), int(y)), int(rng.integers(2, 5)), 1.6, -1)
    glow = cv2.GaussianBlur(lamps, (0, 0), 1) + 2 * cv2.GaussianBlur(lamps, (0, 0), 14)
    return linear_to_srgb(light + glow[..., None] * np.array([1, 0.8, 0.5]))


def black_and_white_film(photo: Values, rng: np.random.Generator) -> Values:
    return _grain(photo.mean(2), rng.uniform(0.03, 0.045), rng.uniform(0.85, 1.1), rng)[..., None].repeat(3, 2)


def colour_film(photo: Values, rng: np.random.Generator) -> Values:
    strength, size = rng.uniform(0.02, 0.03), rng.uniform(0.8, 1.0)
    return np.stack([_grain(photo[..., channel], strength, size, rng) for channel in range(3)], -1)


def _grain(channel: Values, strength: float, size_px: float, rng: np.random.Generator) -> Values:
    noise = np.asarray(cv2.GaussianBlur(rng.normal(size=channel.shape), (0, 0), size_px))
    middle = 0.35 + 1.3 * np.sqrt(np.clip(channel * (1 - channel), 0, 1))
    return np.clip(channel + noise / noise.std() * strength * middle, 0, 1)


def black_sky(photo: Values, rng: np.random.Generator) -> Values:
    """Return the photograph under a flat black sky, with a straight horizon and lit water."""
    horizon = int(photo.shape[0] * rng.uniform(0.2, 0.35))
    picture = photo.copy()
    picture[:horizon] = 0.006
    return picture


def black_table(photo: Values, rng: np.random.Generator) -> Values:
    return black_sky(photo[::-1], rng)[::-1]


# ---- of one colour: no white shows the colour of the light


def grey_mist(photo: Values, rng: np.random.Generator) -> Values:
    """Return a picture without colour, no brighter than a grey sky."""
    return _unrounded(photo.mean(2, keepdims=True).repeat(3, 2) * rng.uniform(0.55, 0.75), rng)


def blue_haze(photo: Values, rng: np.random.Generator) -> Values:
    return _unrounded(photo.mean(2, keepdims=True) * np.array([0.38, 0.55, rng.uniform(0.65, 0.8)]), rng)


def flowers(photo: Values, rng: np.random.Generator) -> Values:
    """Return a picture with only yellow to green, or red to yellow; parts that had no colour are in the shade."""
    colours = np.asarray(cv2.cvtColor(photo.astype(np.float32), cv2.COLOR_RGB2HSV))
    first = rng.uniform(10, 20)
    colours[..., 0] = first + colours[..., 0] / 360 * rng.uniform(45, 75)
    colours[..., 2] *= 0.45 + 0.55 * colours[..., 1]
    colours[..., 1] = 0.5 + 0.5 * colours[..., 1]
    return np.asarray(cv2.cvtColor(colours, cv2.COLOR_HSV2RGB), np.float64)


def _unrounded(picture: Values, rng: np.random.Generator) -> Values:
    """Fill the gaps in the histogram that scaling 8-bit values leaves, and that a camera wouldn't leave."""
    return np.clip(picture + rng.normal(0, 0.004, picture.shape), 0, 1)


# ---- drawn


def skyline(_: Values, rng: np.random.Generator) -> Values:
    picture = np.zeros((580, 880, 3)) + rng.uniform(0.005, 0.02, 3)
    for x in range(0, 880, 22):
        top = 340 if rng.random() < 0.5 else int(rng.integers(230, 340))
        picture[top:, x : x + 22] = 0.05 + 0.15 * rng.random(3)
        for y in range(top + 8, 572, 12):
            for left in (4, 13):
                if rng.random() < 0.4:
                    colour = np.array([1, rng.uniform(0.75, 0.95), rng.uniform(0.4, 0.9)]) * rng.uniform(0.5, 1)
                    picture[y : y + 6, x + left : x + left + 5] = colour
    return np.asarray(cv2.GaussianBlur(picture, (0, 0), 0.7))


def moonlit_sea(_: Values, rng: np.random.Generator) -> Values:
    height, width, moon = 580, 880, int(rng.integers(200, 700))
    x = np.arange(width)
    ripples = cv2.GaussianBlur(rng.normal(size=(height, width)), (0, 0), sigmaX=8, sigmaY=1.2)
    sea = (0.06 + 0.3 * np.exp(-(((x - moon) / 130) ** 2)))[None] * (1 + 3 * ripples)
    picture = np.zeros((height, width, 3)) + np.array([0.01, 0.012, 0.02])
    picture[240:] = np.clip(sea[240:, :, None] * np.array([0.8, 0.9, 1.05]), 0, 1)
    cv2.circle(picture, (moon, 110), 28, (0.96, 0.95, 0.9), -1)
    return np.asarray(cv2.GaussianBlur(picture, (0, 0), 0.6))


def stars(_: Values, rng: np.random.Generator) -> Values:
    picture = np.zeros((600, 800, 3)) + np.array([0.015, 0.016, 0.024])
    for _star in range(700):
        y, x = rng.integers(2, 598), rng.integers(2, 798)
        picture[y, x] += rng.pareto(1.2) * 0.4 * rng.uniform(0.7, 1, 3)
    picture = cv2.GaussianBlur(np.minimum(picture, 8), (0, 0), 0.8)
    return np.clip(picture + rng.normal(0, 0.006, picture.shape), 0, 1)


def sunset(_: Values, rng: np.random.Generator) -> Values:
    height, width, horizon = 580, 880, int(rng.integers(330, 420))
    colours = np.array([[0.22, 0.22, 0.40], [0.58, 0.34, 0.42], [0.92, 0.48, 0.26], [1, 0.78, 0.38]])
    place = np.linspace(0, 1, horizon)
    sky = np.stack([np.interp(place, [0, 0.4, 0.75, 1], colours[:, c]) for c in range(3)], -1)[:, None].repeat(width, 1)
    picture = np.concatenate([sky, sky[::-1][: height - horizon] * np.array([0.55, 0.42, 0.4])])
    y, x = np.mgrid[0:height, 0:width]
    sun = int(rng.integers(200, 700))
    picture += np.exp(-((x - sun) ** 2 + (y - horizon + 30) ** 2) / (2 * 70**2))[..., None] * [0.5, 0.4, 0.2]
    ripples = cv2.GaussianBlur(rng.normal(size=(height, width)), (0, 0), sigmaX=9, sigmaY=1)
    picture = np.clip(picture * (1 + 1.4 * (ripples * (y > horizon))[..., None]), 0, 1)
    cv2.circle(picture, (sun, horizon - 30), 22, (1, 0.96, 0.78), -1)
    return np.clip(cv2.GaussianBlur(picture, (0, 0), 0.7) + rng.normal(0, 0.006, picture.shape), 0, 1)


def snow(_: Values, rng: np.random.Generator) -> Values:
    height, width = 580, 880
    ground = sum(
        cv2.resize(rng.normal(size=(height // size + 2, width // size + 2)), (width, height), interpolation=3) * size
        for size in (200, 90, 40, 16)
    )
    slope_y, slope_x = np.gradient(np.asarray(cv2.GaussianBlur(ground / 200, (0, 0), 2)))
    lit = np.clip(0.88 + 6 * slope_x + 3 * slope_y, 0.45, 1)[..., None]
    shade = np.clip((0.78 - lit) * 2, 0, 1)
    picture = lit * (np.array([0.94, 0.96, 0.99]) * (1 - shade) + np.array([0.75, 0.85, 1.02]) * shade)
    picture[:190] = np.linspace(0, 1, 190)[:, None, None] * [0.08, 0.05, 0] + [0.74, 0.84, 0.97]
    for _tree in range(22):
        x, y = int(rng.integers(10, width - 10)), int(rng.integers(200, 470))
        size = (y - 150) // 5
        cv2.fillPoly(picture, [np.array([[x - size, y], [x + size, y], [x, y - 3 * size]])], (0.1, 0.18, 0.15))
    return np.clip(cv2.GaussianBlur(picture, (0, 0), 0.6) + rng.normal(0, 0.008, picture.shape), 0, 1)


PALETTES = (
    ((18, 18, 18), (40, 40, 42), (230, 230, 230), (255, 121, 198)),
    ((0, 43, 54), (7, 54, 66), (147, 161, 161), (42, 161, 152)),
    ((29, 32, 33), (60, 56, 54), (235, 219, 178), (250, 189, 47)),
    ((46, 52, 64), (59, 66, 82), (216, 222, 233), (136, 192, 208)),
    ((255, 255, 255), (241, 243, 244), (32, 33, 36), (26, 115, 232)),
    ((253, 246, 227), (238, 232, 213), (88, 110, 117), (203, 75, 22)),
    ((12, 20, 69), (25, 36, 100), (240, 240, 255), (255, 200, 60)),
    ((0, 0, 0), (28, 28, 30), (255, 255, 255), (10, 132, 255)),
)


def interface(_: Values, rng: np.random.Generator) -> Values:
    back, bar, ink, accent = PALETTES[int(rng.integers(len(PALETTES)))]
    image = Image.new("RGB", (900, 600), back)
    draw = ImageDraw.Draw(image)
    side = int(rng.integers(120, 220))
    draw.rectangle([0, 0, side, 600], fill=bar)
    draw.rectangle([0, 0, 900, int(rng.integers(30, 56))], fill=bar)
    for row in range(int(rng.integers(6, 20))):
        y = 66 + 27 * row
        draw.text((14, y), ("Home", "Search", "Files", "People")[row % 4], font=_font(14), fill=ink)
        line = f"{row * 731 % 997:03d}  request of {row * 0.43:.2f} s answered, {row % 5} left"
        draw.text((side + 20, y), line, font=_font(int(rng.integers(13, 18))), fill=accent if row % 5 == 0 else ink)
    draw.rounded_rectangle([720, 550, 880, 586], 8, fill=accent)
    return np.asarray(image) / 255


def line_art(_: Values, rng: np.random.Generator) -> Values:
    image = Image.new("RGB", (1500, 1100), "white")
    draw = ImageDraw.Draw(image)
    for _line in range(60):
        corners = [tuple(int(v) for v in rng.integers(60, 1040, 2)) for _ in range(2)]
        draw.line(corners, fill=(0, 0, 0), width=int(rng.integers(2, 5)))
        box = [*corners[0], corners[0][0] + int(rng.integers(20, 300)), corners[0][1] + int(rng.integers(20, 200))]
        draw.ellipse(box, outline=(0, 0, 0), width=2)
    return np.asarray(image.resize((750, 550), Image.Resampling.LANCZOS)) / 255


def page(_: Values, rng: np.random.Generator) -> Values:
    """Return a scanned page of text: paper that isn't white, light that falls off, grain."""
    image = Image.new("L", (1400, 1800), 236)
    draw = ImageDraw.Draw(image)
    for row in range(50):
        words = " ".join("abcdefghijklmno"[: int(rng.integers(2, 12))] for _ in range(12))
        draw.text((120, 90 + 32 * row), words, font=_font(22), fill=48)
    paper = np.asarray(image.resize((700, 900), Image.Resampling.LANCZOS)) / 255
    fall = np.linspace(1.0, rng.uniform(0.8, 0.95), 700)[None]
    return np.clip((paper * fall + rng.normal(0, 0.01, paper.shape))[..., None].repeat(3, 2), 0, 1)


def chart(_: Values, rng: np.random.Generator) -> Values:
    dark = rng.random() < 0.5
    image = Image.new("RGB", (860, 560), (32, 36, 44) if dark else (250, 250, 250))
    draw = ImageDraw.Draw(image)
    for bar in range(12):
        colour = tuple(int(v) for v in rng.integers(60, 240, 3))
        draw.rectangle([60 + 64 * bar, int(rng.integers(90, 460)), 100 + 64 * bar, 500], fill=colour)
    draw.text((60, 30), "Requests a day", font=_font(24), fill=(220, 220, 220) if dark else (40, 40, 40))
    return np.asarray(image) / 255


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def _grid(photo: Values) -> tuple[Values, Values]:
    """Return y and x of every pixel, from 0 to 1."""
    y, x = np.mgrid[0 : photo.shape[0], 0 : photo.shape[1]]
    return y / photo.shape[0], x / photo.shape[1]


OF_PHOTOGRAPHS: tuple[Make, ...] = (
    low_key, stage_lights, theatre, golden_hour, silhouette, sepia, cyanotype, split_toned, high_key, on_white, fog,
    underwater, dusk, black_and_white_film, colour_film, black_sky, black_table,
)  # fmt: skip
OF_ONE_COLOUR: tuple[Make, ...] = (grey_mist, blue_haze, flowers)
DRAWN: tuple[Make, ...] = (skyline, moonlit_sea, stars, sunset, snow, interface, line_art, page, chart)
