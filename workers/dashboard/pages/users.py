"""The pages of users: finding one, and one with balance, ledger and jobs."""

import re
from typing import Final

from starlette.datastructures import FormData
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from models.applications.registry import applications, has_pictures
from workers.dashboard.actions import Action, Done, Field, action_routes
from workers.dashboard.names import asked_name, segment
from workers.dashboard.rendering import page
from workers.dashboard.state import dashboard_of
from workers.operations.errors import InvalidInputError, NotFoundError, OperationError, WrongModeError
from workers.operations.tokens import grant_tokens
from workers.operations.user_facts import NEWEST, UserFacts, name_of_user, newest_users, user_facts

_WHOLE: Final = re.compile(r"[+-]?[0-9]{1,12}")


async def _users(request: Request) -> Response:
    reading = dashboard_of(request).reading
    given = request.query_params.get("user", "").replace("\0", "").strip()
    refusal, status = None, 200
    if given:
        try:
            return RedirectResponse(f"/users/{segment(await name_of_user(reading, given))}", 303)
        except NotFoundError as error:
            refusal, status = str(error), 404
    return page(
        request,
        "users.html",
        name="Users",
        status=status,
        users=await newest_users(reading),
        given=given,
        refusal=refusal,
        has_pictures=has_pictures(),
        has_others=len(applications()) > int(has_pictures()),
        most=NEWEST,
    )


async def _user(request: Request) -> Response:
    facts = await _facts(request)
    record = facts.record
    return page(
        request,
        "user.html",
        name=(record.email or record.id) if record else facts.name,
        facts=facts,
        url=f"/users/{segment(facts.name)}",
        most=NEWEST,
    )


async def _facts(request: Request) -> UserFacts:
    given = request.path_params["id"]
    return await user_facts(dashboard_of(request).reading, asked_name(given, NotFoundError(f"user {given} not found")))


async def _offer_grant(request: Request) -> Action:
    facts = await _facts(request)
    if facts.record is None:
        raise OperationError(f"application {facts.application} keeps the balances of its users: grant tokens there")
    if not facts.may_be_granted:
        raise WrongModeError(facts.mode)
    return Action(
        "Grant tokens",
        [f"They are added to the balance, which is {facts.balance:,} now. A number below 0 takes tokens away."],
        [Field("tokens", "Tokens", is_required=True)],
        # so that a form that is sent twice grants once
        hidden=[("known", "" if facts.last_grant is None else str(facts.last_grant))],
        back=f"/users/{segment(facts.name)}",
    )


async def _grant(request: Request, form: FormData, reason: str | None) -> Done:
    facts = await _facts(request)
    if facts.record is None:
        raise OperationError(f"application {facts.application} keeps the balances of its users: grant tokens there")
    text, known = (str(form.get(key, "")).strip() for key in ("tokens", "known"))
    if not _WHOLE.fullmatch(text.replace(",", "")):
        raise InvalidInputError(f"{text[:100]!r} is no whole number of tokens")
    if not re.fullmatch("[0-9]{0,18}", known):
        raise InvalidInputError("the form isn't one of this page; load it again")
    row = await grant_tokens(
        dashboard_of(request).runtime,
        facts.id,
        int(text.replace(",", "")),
        actor=request.state.operator.name,
        reason=reason,
        known_grant=int(known) if known else None,
    )
    return Done(f"/users/{segment(facts.name)}", f"{row.amount:+,} tokens: the balance is {row.balance_after:,}.")


ROUTES: Final = [
    Route("/users", _users),
    Route("/users/{id}", _user),
    *action_routes("/users/{id}/grant", _offer_grant, _grant),
]
