"""The guard before every page: it decides whether a request is let through, and as whom.

It is plain ASGI, without starlette's middleware, so that streams stay streams. What it lets through has
`request.state.access`, `request.state.operator` and `request.state.csrf_token`.
"""

import time
from collections.abc import Mapping
from http import HTTPStatus
from typing import Final
from urllib.parse import quote

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from config.logger import EventLogger
from config.outcome import outcome_of
from models.connections import DATABASE_ERRORS, SESSION_ENDS, is_passing
from workers.dashboard import csrf
from workers.dashboard.bodies import (
    MOST_BYTES,
    BodyLostError,
    BodyTooLargeError,
    field_of,
    is_declared_too_large,
    read_body,
    replayed,
)
from workers.dashboard.rendering import error_page
from workers.dashboard.sessions import Access, Operator
from workers.dashboard.state import Dashboard
from workers.metrics.families import HTTP_REQUEST_SECONDS

log = EventLogger(__name__)

SESSION_COOKIE: Final = "darkroom_session"
SIGN_IN: Final = "/sign-in"
SIGN_OUT: Final = "/sign-out"
HEALTH: Final = frozenset({"/healthz", "/readyz"})
METRICS: Final = "/metrics"
ASSETS: Final = "/static/"
API: Final = "/api/"
SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})
METHODS: Final = SAFE | {"POST", "PUT", "PATCH", "DELETE"}
"""Methods that metrics name; a client may send any word."""

SECURITY_HEADERS: Final[Mapping[str, str]] = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; font-src 'self'; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}
"""Headers of every answer: nothing is loaded from elsewhere, nothing runs that isn't a file of ours, and no page of
another site can show ours in a frame."""


class Refusal(Exception):  # noqa: N818 - it is an answer, and no error of the dashboard's
    """Raised in the guard to answer a request without any page."""

    def __init__(self, status: HTTPStatus, sentence: str, **headers: str) -> None:
        super().__init__(sentence)
        self.status = status
        self.sentence = sentence
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}


class _Redirect(Exception):  # noqa: N818 - as above
    """Raised in the guard to send a browser to another page."""


class Guard:
    """The ASGI application around the pages."""

    def __init__(self, pages: ASGIApp, dashboard: Dashboard, *, api_token: str | None = None) -> None:
        """Store what is needed.

        Args:
            pages: the application.
            dashboard: its parts.
            api_token: the bearer token of /api, role operator; None if only sessions count there.
        """
        self._pages = pages
        self._dashboard = dashboard
        self._api_token = api_token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            return
        answer = _Answer(scope, send)
        began_s = time.monotonic()
        outcome = await outcome_of(self._let_through(scope, receive, answer))
        if isinstance(outcome, BodyLostError):
            return
        if isinstance(outcome, Exception):
            await self._answer_error(scope, receive, answer, outcome)
        route, duration_s = getattr(scope.get("route"), "path", None), time.monotonic() - began_s
        if not answer.is_stream:  # which lasts as long as somebody looks
            method = scope["method"] if scope["method"] in METHODS else "other"
            labels = (route or "none", method, str(answer.status))
            self._dashboard.measured.histogram(HTTP_REQUEST_SECONDS, *labels).observe(duration_s)
        log.debug(
            "request_answered",
            method=scope["method"],
            route=route,
            status=answer.status,
            duration_s=round(duration_s, 4),
        )

    async def _answer_error(self, scope: Scope, receive: Receive, answer: "_Answer", error: Exception) -> None:
        if isinstance(error, _Redirect | Refusal):
            pass
        elif _is_away(error):
            log.warning("request_waits_for_database", error=str(error), error_type=type(error).__name__)
        else:
            log.error("request_failed", route=getattr(scope.get("route"), "path", None), exc_info=error)
        if answer.status is None:  # else the browser has at least a part of another answer
            await failure(Request(scope), error)(scope, receive, answer)

    async def _let_through(self, scope: Scope, receive: Receive, answer: "_Answer") -> None:
        headers, path = Headers(scope=scope), scope["path"]
        state = scope.setdefault("state", {})
        state.update(dashboard=self._dashboard, access=Access("password", None), operator=None, csrf_token="")
        if path in HEALTH:
            await self._pages(scope, receive, answer)
            return
        is_scrape = path == METRICS
        # a bearer token can't be sent by a page of another site, and whoever scrapes may use any name
        if not self._dashboard.hosts.is_accepted(headers) and not (is_scrape and "authorization" in headers):
            raise Refusal(HTTPStatus.BAD_REQUEST, "this dashboard has another name: see DARKROOM_DASHBOARD_URL")
        if is_declared_too_large(headers):
            raise Refusal(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, TOO_LARGE)
        is_safe = scope["method"] in SAFE
        if is_scrape or (is_safe and path.startswith(ASSETS)):
            await self._pages(scope, receive, answer)
            return
        bearer = self._bearer(headers, path)
        if bearer is None:
            receive = await self._check_people(scope, receive, answer, is_safe=is_safe)
        else:
            state.update(access=Access("password", bearer), operator=bearer)
        await self._pages(scope, receive, answer)

    def _bearer(self, headers: Headers, path: str) -> Operator | None:
        """Return who a program acts as that brings a token for /api; None if it brings none.

        Raises:
            Refusal: the token is wrong.
        """
        kind, _, token = headers.get("authorization", "").partition(" ")
        if not path.startswith(API) or kind.lower() != "bearer":
            return None
        if self._api_token is None or not csrf.agree(token.strip(), self._api_token):
            raise Refusal(HTTPStatus.UNAUTHORIZED, "this token isn't DARKROOM_API_TOKEN", www_authenticate="Bearer")
        return Operator("api", "operator")

    async def _check_people(self, scope: Scope, receive: Receive, answer: "_Answer", *, is_safe: bool) -> Receive:
        """Find out who a request comes from and whether they may do it; return what gives its body to the page.

        Raises:
            Refusal, _Redirect: they may not, or aren't signed in.
        """
        dashboard, request, path = self._dashboard, Request(scope), scope["path"]
        named = dashboard.hosts.named(request.headers, request.client.host if request.client else "")
        access = await dashboard.operators.access(request.cookies.get(SESSION_COOKIE), named)
        tokens = self._tokens(request, access, answer)
        scope["state"].update(access=access, operator=access.operator, csrf_token=tokens[0])
        is_own = path in {SIGN_IN, SIGN_OUT}
        if access.operator is None and path != SIGN_IN:
            raise _not_signed_in(request, is_safe=is_safe)
        if is_safe:
            return receive
        if access.operator is not None and access.operator.role != "operator" and not is_own:
            raise Refusal(HTTPStatus.FORBIDDEN, VIEWER)
        self._require_same_site(request)
        try:
            body = await read_body(receive)
        except BodyTooLargeError as error:
            raise Refusal(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, TOO_LARGE) from error
        given = request.headers.get(csrf.HEADER) or await field_of(csrf.FIELD, request.headers, body)
        allowed = tokens if path == SIGN_IN else tokens[:1]
        if given is None or not any(csrf.agree(given, token) for token in allowed):
            raise Refusal(HTTPStatus.FORBIDDEN, STALE)
        return replayed(body, receive)

    def _tokens(self, request: Request, access: Access, answer: "_Answer") -> list[str]:
        """Return the token of this browser's forms and, if it has a session, that of before it signed in."""
        tokens = self._dashboard.csrf
        nonce = tokens.nonce(request.cookies.get(csrf.COOKIE))
        if access.token_hash is not None:
            return [tokens.of_session(access.token_hash), tokens.of_nonce(nonce.value, "")]
        if nonce.cookie is not None:
            answer.cookie = cookie(csrf.COOKIE, nonce.cookie, csrf.COOKIE_S, is_https=self._dashboard.hosts.is_https)
        return [tokens.of_nonce(nonce.value, access.operator.name if access.operator else "")]

    def _require_same_site(self, request: Request) -> None:
        """Check by what browsers say of themselves that a page of ours sends a request.

        Raises:
            Refusal: another site's page does.
        """
        site, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin")
        is_ours = site == "same-origin" if site is not None else origin is None or self._dashboard.hosts.is_ours(origin)
        if not is_ours:
            raise Refusal(HTTPStatus.FORBIDDEN, "a page of another site asked for this; nothing was changed")


TOO_LARGE: Final = f"a request may have {MOST_BYTES:,} bytes at most"
VIEWER: Final = "viewers may look at everything and change nothing; nothing was changed"
STALE: Final = "this form is too old or of another session; nothing was changed: open the page again and repeat it"
DATABASE_AWAY: Final = "the database can't be used now; load this page again in a moment"
BUG: Final = "something went wrong that shouldn't; the dashboard's log has request_failed with a traceback"


def refused(request: Request, status: HTTPStatus, sentence: str, *, name: str | None = None) -> Response:
    """Return the answer to a request that is refused: JSON for programs, and a page for people.

    `name` is the page's; None for the usual words for the status.
    """
    if request.url.path.startswith(API):
        problem = {"title": status.phrase, "status": status.value, "detail": sentence}
        return JSONResponse(problem, status, media_type="application/problem+json")
    return error_page(request, status, name or status.phrase, sentence)


def failure(request: Request, error: Exception) -> Response:
    """Return the answer to a request whose page, or the guard before it, raised an error."""
    if isinstance(error, _Redirect):
        return RedirectResponse(str(error), HTTPStatus.SEE_OTHER)
    if isinstance(error, Refusal):
        response = refused(request, error.status, error.sentence)
        response.headers.update(error.headers)
        return response
    if _is_away(error):
        response = refused(request, HTTPStatus.SERVICE_UNAVAILABLE, DATABASE_AWAY)
        response.headers["retry-after"] = "5"
        return response
    return refused(request, HTTPStatus.INTERNAL_SERVER_ERROR, BUG)


def _is_away(error: Exception) -> bool:
    # PostgreSQL refuses connections for many reasons, such as a changed password: none of them is a page's fault
    is_refused = getattr(error, "severity_en", None) in SESSION_ENDS
    return isinstance(error, DATABASE_ERRORS) and (is_refused or is_passing(error))


def cookie(name: str, value: str, max_age_s: int, *, is_https: bool) -> str:
    """Return the header of a cookie that no script can read and that no other site's page can have sent."""
    secure = "; Secure" if is_https else ""
    return f"{name}={value}; Path=/; Max-Age={max_age_s}; HttpOnly; SameSite=Strict{secure}"


def _not_signed_in(request: Request, *, is_safe: bool) -> Exception:
    if request.url.path.startswith(API):
        return Refusal(HTTPStatus.UNAUTHORIZED, "sign in, or send a bearer token", www_authenticate="Bearer")
    if not is_safe:
        return _Redirect(SIGN_IN)
    asked, query = request.scope["raw_path"], request.scope["query_string"]
    return _Redirect(f"{SIGN_IN}?next={quote(asked + (b'?' + query if query else b''), safe='')}")


class _Answer:
    """Sends an answer on, with the headers that every answer has."""

    def __init__(self, scope: Scope, send: Send) -> None:
        self._is_asset = scope["path"].startswith(ASSETS)
        self._send = send
        self.status: int | None = None
        self.is_stream = False
        self.cookie: str | None = None

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = int(message["status"])
            headers = MutableHeaders(raw=message.setdefault("headers", []))
            self.is_stream = headers.get("content-type", "").startswith("text/event-stream")
            for name, value in SECURITY_HEADERS.items():
                headers[name] = value
            if not self._is_asset:
                headers.setdefault("cache-control", "no-store")
            if self.cookie is not None:
                headers.append("set-cookie", self.cookie)
        await self._send(message)
