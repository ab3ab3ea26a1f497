"""The pages by which people sign in and out."""

import re
from http import HTTPStatus
from typing import Final
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from models.operators.sessions import LIFETIME
from workers.dashboard.guard import SESSION_COOKIE, SIGN_IN, SIGN_OUT, cookie
from workers.dashboard.rendering import page
from workers.dashboard.sessions import Limited, SignedIn
from workers.dashboard.state import Dashboard, dashboard_of

HOME: Final = "/"
MOST_CHARACTERS: Final = 2_000
_PATH: Final = re.compile(r"/(?![/\\])[^\\\x00-\x20\x7f-\x9f]*")
"""A path of ours: it can't be taken for another host, and browsers remove nothing of it before they read it."""

WRONG: Final = "wrong name or password"
BY_PROXY: Final = "the proxy in front of this dashboard signs people in, and it named no operator"


def path_of_ours(text: str | None) -> str:
    """Return the page to which somebody is led after signing in; `/` if the text isn't the path of a page of ours."""
    if text is None or len(text) > MOST_CHARACTERS or not _PATH.fullmatch(text):
        return HOME
    if text.partition("?")[0] in {SIGN_IN, SIGN_OUT}:
        return HOME
    return quote(text, safe="/?&=%~:@!$'()*+,;#[]", errors="replace")


async def ask(request: Request) -> Response:
    """Show the form, or lead on whoever is signed in."""
    following = path_of_ours(request.query_params.get("next"))
    if request.state.operator is not None:
        return RedirectResponse(following, HTTPStatus.SEE_OTHER)
    return _form(request, following, alert=BY_PROXY if request.state.access.auth == "proxy" else None)


async def sign_in(request: Request) -> Response:
    """Verify a name and a password, and set the session's cookie."""
    dashboard = dashboard_of(request)
    async with request.form() as form:
        name, password, following = (_text(form.get(one)) for one in ("name", "password", "next"))
    following = path_of_ours(following)
    if request.state.access.auth == "proxy":
        return _form(request, following, alert=BY_PROXY, status=HTTPStatus.FORBIDDEN)
    address = dashboard.hosts.client(request.headers, request.client.host if request.client else "")
    outcome = await dashboard.operators.sign_in(name, password, address)
    if isinstance(outcome, SignedIn):
        await dashboard.operators.sign_out(request.state.access)  # of who used this browser until now
        led = RedirectResponse(following, HTTPStatus.SEE_OTHER)
        _set_session(led, dashboard, outcome.token, int(LIFETIME.total_seconds()))
        return led
    if isinstance(outcome, Limited):
        wait_s = outcome.retry_after_s
        alert = f"too many sign-ins have failed; try again in {wait_s} s"
        response = _form(request, following, name=name, alert=alert, status=HTTPStatus.TOO_MANY_REQUESTS)
        response.headers["retry-after"] = str(wait_s)
        return response
    return _form(request, following, name=name, alert=WRONG, status=HTTPStatus.UNAUTHORIZED)


async def sign_out(request: Request) -> Response:
    """End the session on the server, so that its token is worth nothing, and remove the cookie."""
    dashboard = dashboard_of(request)
    await dashboard.operators.sign_out(request.state.access)
    response = RedirectResponse(SIGN_IN, HTTPStatus.SEE_OTHER)
    _set_session(response, dashboard, "", 0)
    return response


def _set_session(response: Response, dashboard: Dashboard, token: str, max_age_s: int) -> None:
    response.headers.append("set-cookie", cookie(SESSION_COOKIE, token, max_age_s, is_https=dashboard.hosts.is_https))


def _form(
    request: Request,
    following: str,
    *,
    name: str = "",
    alert: str | None = None,
    status: HTTPStatus = HTTPStatus.OK,
) -> Response:
    response = page(
        request,
        "sign_in.html",
        name="Sign in",
        following=following,
        typed=name[:200],
        alert=alert,
        asks=request.state.access.auth != "proxy",
    )
    response.status_code = status
    return response


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


ROUTES: Final = [
    Route(SIGN_IN, ask, methods=["GET"]),
    Route(SIGN_IN, sign_in, methods=["POST"]),
    Route(SIGN_OUT, sign_out, methods=["POST"]),
]
