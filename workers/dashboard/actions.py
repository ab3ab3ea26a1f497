"""Actions: the form that a button opens, what it sends, and what came of it.

The form is a page of its own, at a URL that GET shows and POST carries out. Where scripts run, the page's dialog is
shown over the page whose button was pressed.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final, TypeAlias

from starlette.datastructures import FormData
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from workers.dashboard.guard import VIEWER, refused
from workers.dashboard.rendering import page, say
from workers.dashboard.state import dashboard_of
from workers.operations.errors import (
    InvalidInputError,
    NotFoundError,
    NotYoursError,
    OperationError,
    PaymentRefusedError,
)

MOST_REASON_CHARS: Final = 1000


@dataclass(frozen=True, slots=True)
class Field:
    """A field of an action's form.

    Attributes:
        name: under which its value is sent.
        label: its accessible name.
        choices: pairs of a value and its words, for a combobox; empty for a textbox.
        value: what it holds at first.
        is_required: whether it has to be filled.
        kind: the input's type, such as `number`.
    """

    name: str
    label: str
    choices: Sequence[tuple[str, str]] = ()
    value: str = ""
    is_required: bool = False
    kind: str = "text"


@dataclass(frozen=True, slots=True)
class Action:
    """An action that an operator may take.

    Attributes:
        name: of its button and its dialog.
        sentences: what will happen.
        fields: what is asked beside the reason.
        confirm: the confirming button's name; the action's own if not given.
        hidden: what is sent along, as pairs of a name and a value.
        back: where "Close" leads where no scripts run.
        is_possible: whether there is anything to confirm.
    """

    name: str
    sentences: Sequence[str] = ()
    fields: Sequence[Field] = ()
    confirm: str | None = None
    hidden: Sequence[tuple[str, str]] = ()
    back: str = "/"
    is_possible: bool = True


@dataclass(frozen=True, slots=True)
class Done:
    """What came of an action: the page to go to, and the sentence that it says."""

    location: str
    said: str


Offer: TypeAlias = Callable[[Request], Awaitable[Action]]
Carry: TypeAlias = Callable[[Request, FormData, str | None], Awaitable[Done]]


def action_routes(path: str, offer: Offer, carry_out: Carry) -> list[Route]:
    """Return the routes of an action.

    Args:
        path: of its form.
        offer: returns the action for a request; raises OperationError if there is no such thing.
        carry_out: does it, given the request, the form and the reason; raises OperationError if it is refused.
    """

    async def show(request: Request) -> Response:
        if not request.state.operator.may_act:  # a form may count by a rehearsal, which locks rows for a while
            return refused(request, HTTPStatus.FORBIDDEN, VIEWER)
        try:
            action = await offer(request)
        except OperationError as error:
            return _form(request, Action("Not possible"), error)
        return _form(request, action, None)

    async def run(request: Request) -> Response:
        form = await request.form()
        reason = str(form.get("reason", "")).strip() or None
        try:
            if reason is not None and len(reason) > MOST_REASON_CHARS:
                raise InvalidInputError(f"the reason has {len(reason):,} characters; at most {MOST_REASON_CHARS:,}")
            if any("\0" in value for value in form.values() if isinstance(value, str)):
                raise InvalidInputError("a text holds the character NUL, which PostgreSQL can't store")
            done = await carry_out(request, form, reason)
        except OperationError as error:
            try:
                action = await offer(request)
            except OperationError:
                action = Action("Not possible")
            return _form(request, action, error)
        dashboard_of(request).forget()
        return go_on(request, done)

    return [Route(path, show, methods=["GET"]), Route(path, run, methods=["POST"])]


def go_on(request: Request, done: Done) -> Response:
    """Lead to the page that shows what came of an action."""
    if is_dialog(request):
        response = Response(status_code=200, headers={"HX-Redirect": done.location})
    else:
        response = RedirectResponse(done.location, 303)
    say(request, response, done.said)
    return response


def is_dialog(request: Request) -> bool:
    """Return whether a script asked, to show the answer in a dialog."""
    return request.headers.get("hx-request") == "true"


def _form(request: Request, action: Action, error: OperationError | None) -> Response:
    return page(
        request,
        "dialog.html" if is_dialog(request) else "action.html",
        name=action.name,
        status=200 if error is None else status_of(error),
        action=action,
        refusal=None if error is None else str(error),
    )


def status_of(error: OperationError) -> int:
    """Return the HTTP status for a refusal."""
    match error:
        case NotFoundError():
            return 404
        case NotYoursError():
            return 403
        case PaymentRefusedError():
            return 402
        case InvalidInputError():
            return 422
        case _:
            return 409
