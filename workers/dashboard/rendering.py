"""Pages as HTML: the templates, and what all of them may use."""

import hashlib
from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any, Final

from itsdangerous import BadSignature, URLSafeTimedSerializer
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from workers.dashboard.names import segment
from workers.dashboard.state import dashboard_of
from workers.presentation.values import duration, json_text, utc, words

FOLDER: Final = Path(__file__).parent
NAVIGATION: Final = (
    ("Overview", "/"),
    ("Jobs", "/jobs"),
    ("Batches", "/batches"),
    ("Queues", "/queues"),
    ("Users", "/users"),
    ("Pipelines", "/pipelines"),
    ("Schedules", "/schedules"),
    ("Providers", "/providers"),
    ("Actions", "/actions"),
    ("Settings", "/settings"),
)
"""The pages that every page leads to."""

NONE: Final = "-"
"""What stands where there is no value, as in the command line's tables."""

THEMES: Final = ("auto", "light", "dark")
THEME_COOKIE: Final = "darkroom_theme"
SAID_COOKIE: Final = "darkroom_said"
"""Holds, signed, what came of an action, until the next page has shown it."""

MOST_SAID_CHARS: Final = 200
"""Of longer sentences the rest is left out: a character may take sixteen bytes, and browsers drop cookies of more than
4,096."""

SAID_S: Final = 60
"""How many seconds that is shown at most after the action."""


@cache
def templates() -> Environment:
    """Return the environment of all templates. Everything that they are given is text, and nothing of it markup."""
    environment = Environment(
        loader=FileSystemLoader(FOLDER / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "segment": segment,
        "time": _time,
        "duration": duration,
        "number": _number,
        "usd": _usd,
        "shown": _shown,
        "json": lambda value: json_text(value, indent=2),
    }
    environment.globals |= {"navigation": NAVIGATION, "asset": asset}
    return environment


@cache
def asset(name: str) -> str:
    """Return the URL of a file of ours, which changes with its content, so that browsers may keep it for ever."""
    digest = hashlib.sha256((FOLDER / "static" / name).read_bytes()).hexdigest()[:16]
    return f"/static/{name}?{digest}"


def page(
    request: Request,
    template: str,
    *,
    name: str,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
    **values: Any,
) -> Response:
    """Return a page.

    Args:
        request: which asked for it.
        template: the name of a file in `templates/`.
        name: the page's name, its title and heading.
        status: of the answer.
        headers: further headers of the answer.
        values: what the template shows.
    """
    said = _said(request)
    text = (
        templates()
        .get_template(template)
        .render(
            name=name,
            path=request.url.path,
            operator=request.state.operator,
            is_signed_in=request.state.access.token_hash is not None,
            csrf_token=request.state.csrf_token,
            theme=theme_of(request),
            said=said,
            **values,
        )
    )
    response = HTMLResponse(text, status, headers)
    if said is not None:
        response.delete_cookie(SAID_COOKIE)
    return response


def error_page(request: Request, status: int, name: str, sentence: str) -> Response:
    """Return the page that says why a request wasn't answered as it was asked."""
    return page(request, "error.html", name=name, status=status, sentence=sentence)


def theme_of(request: Request) -> str:
    """Return the theme that this browser chose; `auto` follows the operating system."""
    chosen = request.cookies.get(THEME_COOKIE, "")
    return chosen if chosen in THEMES else THEMES[0]


def say(request: Request, response: Response, sentence: str) -> None:
    """Show a sentence on the next page that this browser gets."""
    cut = sentence if len(sentence) <= MOST_SAID_CHARS else f"{sentence[:MOST_SAID_CHARS]} ..."
    text = _signer(request).dumps(cut)
    response.set_cookie(SAID_COOKIE, text, max_age=SAID_S, httponly=True, samesite="strict")


def _said(request: Request) -> str | None:
    try:
        said = _signer(request).loads(request.cookies.get(SAID_COOKIE, ""), max_age=SAID_S)
    except BadSignature:
        return None
    return said if isinstance(said, str) else None


def _signer(request: Request) -> URLSafeTimedSerializer:
    key = dashboard_of(request).settings.secret_key
    if key is None:
        raise AssertionError("unreachable: an open dashboard has a key")
    return URLSafeTimedSerializer(key.get_secret_value(), salt="darkroom.said")


def _time(value: datetime | None) -> str | Markup:
    if value is None:
        return NONE
    moment = utc(value)
    text = f"{moment:%Y-%m-%d %H:%M:%S}"
    return Markup('<time datetime="{}" title="{} UTC">{}</time>').format(
        moment.isoformat(timespec="milliseconds"), text, text
    )


def _number(value: float | Decimal | None) -> str:
    if value is None:
        return NONE
    return f"{value:,}" if isinstance(value, int) else f"{value:,.1f}"


def _usd(value: Decimal | float | None) -> str:
    return NONE if value is None else f"{value:,.4f}".rstrip("0").rstrip(".") + " USD"


def _shown(value: object) -> str:
    return NONE if value is None or value == "" else words(value)
