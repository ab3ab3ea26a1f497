"""The before/after sheet: every pair with what was found, measured and done, as one PNG."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from PIL import Image, ImageDraw, ImageFont

from workers.demo.facts import Facts

WIDTH_PX: Final = 1600
MARGIN_PX: Final = 44
PICTURE_WIDTH_PX: Final = 540
PICTURE_HEIGHT_PX: Final = 450
"""Largest height of a picture, in pixels, so that a portrait doesn't fill half of the sheet."""

GAP_PX: Final = 8
GUTTER_PX: Final = 36
TEXT_LEFT_PX: Final = MARGIN_PX + 2 * PICTURE_WIDTH_PX + GAP_PX + GUTTER_PX
TEXT_WIDTH_PX: Final = WIDTH_PX - MARGIN_PX - TEXT_LEFT_PX
ROW_GAP_PX: Final = 40
REFUSED_PX: Final = 120
"""Height, in pixels, of a job without a result."""

REASON_PX: Final = 560
"""Distance, in pixels, of a refused job's reason from the beginning of the text column."""

INSET_FRACTION: Final = 0.32
"""Width of a blend's second picture, in the corner of the first, as a fraction of the first one's width."""

_BACKGROUND: Final = (22, 22, 24)
_BEHIND: Final = (38, 38, 41)
_INK: Final = (238, 238, 236)
_MUTED: Final = (152, 152, 158)
_ACCENT: Final = (255, 138, 92)
_RULE: Final = (52, 52, 56)

_TITLE: Final = 40
_HEADING: Final = 28
_BODY: Final = 18
_SMALL: Final = 15
_PNG_LEVEL: Final = 3
"""Compression level of zlib, 0 to 9: higher ones take three times as long for a photograph, with little gain."""


def write_sheet(facts: Sequence[Facts], path: Path) -> Path:
    """Draw the sheet and write it; return its path.

    Raises:
        OSError: it can't be written.
    """
    rows = [_Row.of(fact) for fact in facts if fact.result is not None]
    ended_otherwise = [fact for fact in facts if fact.result is None]
    header_px = MARGIN_PX + 100
    height_px = (
        header_px + sum(row.height_px + ROW_GAP_PX for row in rows) + REFUSED_PX * len(ended_otherwise) + MARGIN_PX
    )
    sheet = Image.new("RGB", (WIDTH_PX, height_px), _BACKGROUND)
    pen = _Pen(sheet)
    pen.text((MARGIN_PX, MARGIN_PX - 6), "Darkroom, before and after", _TITLE, _INK)
    pen.text((MARGIN_PX, MARGIN_PX + 48), _summary(facts), _BODY, _MUTED)
    top = header_px
    for row in rows:
        row.draw(sheet, pen, top)
        top += row.height_px + ROW_GAP_PX
    for fact in ended_otherwise:
        _draw_refused(pen, fact, top)
        top += REFUSED_PX
    sheet.save(path, "PNG", compress_level=_PNG_LEVEL)
    return path


def _summary(facts: Sequence[Facts]) -> str:
    done = sum(fact.job["status"] == "COMPLETED" for fact in facts)
    charged, refunded = sum(fact.charged for fact in facts), sum(fact.refunded for fact in facts)
    return (
        f"{len(facts)} jobs of {len({fact.demo_job.user for fact in facts})} users, {done} completed; "
        f"{charged} tokens charged, {refunded} paid back"
    )


class _Pen:
    """Draws text in Pillow's own font, at any size."""

    def __init__(self, sheet: Image.Image) -> None:
        self._draw = ImageDraw.Draw(sheet)
        self._fonts: dict[int, ImageFont.FreeTypeFont | ImageFont.ImageFont] = {}

    def font(self, size_px: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
        return self._fonts.setdefault(size_px, ImageFont.load_default(size_px))

    def text(self, place: tuple[int, int], text: str, size_px: int, colour: tuple[int, int, int]) -> None:
        self._draw.text(place, _drawable(text), colour, self.font(size_px))

    def label(self, place: tuple[int, int], text: str) -> None:
        """Draw a text on a dark background, readable on any picture."""
        x, y = place
        width_px = round(self._draw.textlength(text, self.font(_SMALL)))
        self._draw.rounded_rectangle((x, y, x + width_px + 20, y + 26), 4, (16, 16, 18))
        self.text((x + 10, y + 4), text, _SMALL, _INK)

    def rule(self, y: int) -> None:
        self._draw.line((MARGIN_PX, y, WIDTH_PX - MARGIN_PX, y), _RULE)

    def frame(self, box: tuple[int, int, int, int]) -> None:
        self._draw.rectangle(box, outline=_INK, width=2)

    def wrapped(self, text: str, size_px: int, width_px: int) -> list[str]:
        """Return a text as lines of at most `width_px`, broken between words."""
        lines: list[str] = []
        font = self.font(size_px)
        for word in _drawable(text).split():
            longer = f"{lines[-1]} {word}" if lines else word
            if lines and self._draw.textlength(longer, font) <= width_px:
                lines[-1] = longer
            else:
                lines.append(word)
        return lines


def _drawable(text: str) -> str:
    """Return a text without characters that the font lacks, which would be drawn as boxes."""
    return text.replace("\u00b0", " degrees").replace("\u00b1", "+-").replace("\u2026", "...")


@dataclass(frozen=True, slots=True)
class _Line:
    text: str
    size_px: int
    colour: tuple[int, int, int]
    advance_px: int


@dataclass(frozen=True, slots=True)
class _Row:
    """One pair of pictures and the text beside it."""

    before: Image.Image
    after: Image.Image
    inset: Image.Image | None
    lines: tuple[_Line, ...]

    @classmethod
    def of(cls, fact: Facts) -> "_Row":
        before = _fitted(_opened(fact.entry.original.data))
        inset = None
        if fact.entry.second is not None:
            inset = _opened(fact.entry.second.data)
            inset.thumbnail((round(before.width * INSET_FRACTION), before.height), Image.Resampling.LANCZOS)
        return cls(before, _after(fact, before), inset, tuple(_lines(fact)))

    @property
    def height_px(self) -> int:
        return max(self.before.height, sum(line.advance_px for line in self.lines))

    def draw(self, sheet: Image.Image, pen: _Pen, top: int) -> None:
        right = MARGIN_PX + PICTURE_WIDTH_PX + GAP_PX
        for left, picture, label in ((MARGIN_PX, self.before, "before"), (right, self.after, "after")):
            inside = left + (PICTURE_WIDTH_PX - picture.width) // 2
            sheet.paste(picture, (inside, top))
            pen.label((inside + 10, top + 10), label)
        if self.inset is not None:
            edge = MARGIN_PX + (PICTURE_WIDTH_PX + self.before.width) // 2
            x, y = edge - self.inset.width - 12, top + self.before.height - self.inset.height - 12
            sheet.paste(self.inset, (x, y))
            pen.frame((x - 2, y - 2, x + self.inset.width + 1, y + self.inset.height + 1))
        y = top
        for line in self.lines:
            pen.text((TEXT_LEFT_PX, y), line.text, line.size_px, line.colour)
            y += line.advance_px


def _lines(fact: Facts) -> list[_Line]:
    """Draw the text lines beside a pair of pictures."""
    pen = _Pen(Image.new("RGB", (1, 1)))
    lines = [_Line(line, _HEADING, _INK, 36) for line in pen.wrapped(_title(fact), _HEADING, TEXT_WIDTH_PX)]
    tokens = f"{fact.charged} tokens" if fact.charged else "no tokens"
    lines += [_Line(f"{fact.demo_job.tier}, {tokens}, {fact.demo_job.user}", _BODY, _ACCENT, 26)]
    lines += [_Line(f"{fact.sizes}, {fact.total_s:.1f} s", _BODY, _MUTED, 26)]
    for label, text, size_px in (
        ("found", ", ".join(fact.found), _BODY),
        ("measured", fact.measured, _BODY),
        ("done", fact.done, _BODY),
    ):
        if not text:
            continue
        lines.append(_Line("", _SMALL, _MUTED, 12))
        lines.append(_Line(label, _SMALL, _MUTED, 22))
        lines += [_Line(line, size_px, _INK, 24) for line in pen.wrapped(text, size_px, TEXT_WIDTH_PX)]
    return lines


def _title(fact: Facts) -> str:
    return f"{fact.demo_job.name}: {fact.demo_job.damage}"


def _draw_refused(pen: _Pen, fact: Facts, top: int) -> None:
    """Draw a job without a result: its title, and the reason."""
    pen.rule(top)
    pen.text((MARGIN_PX, top + 20), _title(fact), _HEADING, _INK)
    pen.text((MARGIN_PX, top + 60), f"{fact.job['status']}, {fact.demo_job.tier}, {fact.demo_job.user}", _BODY, _ACCENT)
    tokens = f"{fact.charged} tokens charged, {fact.refunded} paid back"
    pen.text((TEXT_LEFT_PX - REASON_PX, top + 24), tokens, _BODY, _INK)
    for number, line in enumerate(pen.wrapped(fact.done, _SMALL, REASON_PX + TEXT_WIDTH_PX)[:3]):
        pen.text((TEXT_LEFT_PX - REASON_PX, top + 54 + 20 * number), line, _SMALL, _MUTED)


def _opened(data: bytes, width_px: int = PICTURE_WIDTH_PX) -> Image.Image:
    """Decode a picture; a large JPEG at a fraction of its size, which takes a fraction of the time."""
    picture = Image.open(io.BytesIO(data))
    picture.draft("RGB", (2 * width_px, 2 * width_px))
    return picture.convert("RGB")


def _fitted(picture: Image.Image) -> Image.Image:
    factor = min(PICTURE_WIDTH_PX / picture.width, PICTURE_HEIGHT_PX / picture.height)
    size = (max(1, round(picture.width * factor)), max(1, round(picture.height * factor)))
    return picture.resize(size, Image.Resampling.LANCZOS)


def _after(fact: Facts, before: Image.Image) -> Image.Image:
    """Return the result at the original's scale, its cropped parts empty, so that both pictures lie alike."""
    picture = _opened(fact.result or b"")
    crop = fact.job["cropDimensions"] if fact.job["wasCropped"] else None
    if not crop:
        return picture.resize(before.size, Image.Resampling.LANCZOS)
    factor = before.width / fact.entry.original.width_px
    size = (max(1, round(crop["w"] * factor)), max(1, round(crop["h"] * factor)))
    canvas = Image.new("RGB", before.size, _BEHIND)
    canvas.paste(picture.resize(size, Image.Resampling.LANCZOS), (round(crop["x"] * factor), round(crop["y"] * factor)))
    return canvas
