"""The before/after page: one HTML file with a slider for every pair, which needs no other file."""

import base64
import io
from collections.abc import Sequence
from html import escape
from pathlib import Path
from string import Template
from typing import Final

from PIL import Image

from workers.demo.facts import Facts
from workers.presentation.values import duration

LONG_SIDE_PX: Final = 1280
"""Longest side of a picture on the page, in pixels: twice what a phone shows; a 4K result stays in storage."""

QUALITY: Final = 86
_TEMPLATE: Final = Path(__file__).with_name("page.html")


def write_page(facts: Sequence[Facts], path: Path) -> Path:
    """Write the page; return its path.

    Raises:
        OSError: it can't be written.
    """
    page = Template(_TEMPLATE.read_text(encoding="utf-8")).substitute(
        summary=escape(_summary(facts)),
        articles="\n".join(map(_article, facts)),
        tokens="\n".join(map(_token_row, facts)),
    )
    path.write_text(page, encoding="utf-8")
    return path


def _summary(facts: Sequence[Facts]) -> str:
    done = sum(fact.job["status"] == "COMPLETED" for fact in facts)
    users = len({fact.demo_job.user for fact in facts})
    return f"{len(facts)} jobs of {users} users, {done} of them completed."


def _article(fact: Facts) -> str:
    title = escape(f"{fact.demo_job.name}: {fact.demo_job.damage}")
    kind = "" if fact.result is not None else ' class="refused"'
    pair = "" if fact.result is None else _pair(fact, fact.result)
    rows = "\n".join(
        f'<tr><th scope="row">{escape(name)}</th><td>{escape(value)}</td></tr>'
        for name, value in _fields(fact).items()
        if value
    )
    return f"""<article{kind}>
<div class="head"><h2>{title}</h2><p>{escape(fact.demo_job.tier)}, {escape(fact.demo_job.user)}</p></div>
{pair}
<table class="facts"><tbody>
{rows}
</tbody></table>
</article>"""


def _fields(fact: Facts) -> dict[str, str]:
    is_done = fact.job["status"] == "COMPLETED"
    stages = ", ".join(f"{stage} {ms} ms" for stage, ms in fact.stage_ms.items())
    tokens = f"{fact.charged} charged" + (f", {fact.refunded} paid back" if fact.refunded else "")
    return {
        "found": ", ".join(fact.found),
        "measured": fact.measured,
        "done" if is_done else "failed": fact.done,
        "size": fact.sizes,
        "stages": stages,
        "time": f"{duration(fact.total_s)}, of which {duration(fact.waited_s)} in the queue",
        "tokens": tokens,
        "job": f"{fact.job['id']}, {fact.job['status']}",
    }


def _pair(fact: Facts, result: bytes) -> str:
    """Render the result over the original, with cropped parts uncovered, so that both have the same scale."""
    original = fact.entry.original
    name = escape(fact.demo_job.name, quote=True)
    crop = fact.job["cropDimensions"] if fact.job["wasCropped"] else None
    place = ""
    if crop:
        left, top = 100 * crop["x"] / original.width_px, 100 * crop["y"] / original.height_px
        width, height = 100 * crop["w"] / original.width_px, 100 * crop["h"] / original.height_px
        place = f' style="left:{left:.3f}%;top:{top:.3f}%;width:{width:.3f}%;height:{height:.3f}%"'
    second = ""
    if fact.entry.second is not None:
        second = f'<div class="second"><img src="{_uri(fact.entry.second.data, LONG_SIDE_PX // 4)}" alt=""></div>'
    ratio = f"{original.width_px} / {original.height_px}"
    # The height is at most 85vh, set through the width, because the box has a fixed aspect
    fitted = f"aspect-ratio:{ratio};max-width:calc(85vh * {original.width_px / original.height_px:.4f})"
    return f"""<div class="pair" style="{fitted}">
<img src="{_uri(original.data)}" alt="{name} before">
{second}
<div class="after"><img src="{_uri(result)}" alt="{name} after"{place}></div>
<span class="tag left">before</span><span class="tag right">after</span>
<div class="bar"></div>
<input type="range" min="0" max="100" step="1" value="50" aria-label="Before and after, {name}">
</div>"""


def _token_row(fact: Facts) -> str:
    demo_job = fact.demo_job
    cells = "".join(f"<td>{escape(text)}</td>" for text in (demo_job.user, demo_job.name, demo_job.tier))
    numbers = "".join(f'<td class="number">{amount}</td>' for amount in (fact.charged, fact.refunded))
    return f"<tr>{cells}{numbers}</tr>"


def _uri(data: bytes, long_side_px: int = LONG_SIDE_PX) -> str:
    """Return a picture as a data URI, scaled down if it is larger than `long_side_px`."""
    picture = Image.open(io.BytesIO(data))
    if max(picture.size) > long_side_px:
        picture.draft("RGB", (long_side_px, long_side_px))
        scaled = picture.convert("RGB")
        scaled.thumbnail((long_side_px, long_side_px), Image.Resampling.LANCZOS)
        encoded = io.BytesIO()
        scaled.save(encoded, "JPEG", quality=QUALITY)
        data = encoded.getvalue()
    return "data:image/jpeg;base64," + base64.b64encode(data).decode("ascii")
