"""The page Jobs: a list by a filter that stands in the URL, and what is done to many of its jobs at once."""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Final
from urllib.parse import urlencode

from starlette.datastructures import FormData, QueryParams
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from config.tiers import Tier
from models.applications.registry import job_types
from models.job_state import JobStatus
from models.queue.job_filter import JobFilter
from pipelines.job_types import stage_names
from workers.dashboard.actions import Action, Done, action_routes
from workers.dashboard.rendering import page
from workers.dashboard.state import Dashboard, dashboard_of
from workers.operations.bulk import Outcome, Rehearsal, Verb, do_to_all, rehearse
from workers.operations.errors import InvalidInputError
from workers.operations.job_lists import MOST_AT_ONCE, PAGE_JOBS, jobs_page, select_jobs, user_of_list
from workers.operations.moments import moment_of
from workers.presentation.values import count_of
from workers.process.runtime import Runtime

KEYS: Final = ("status", "type", "tier", "stage", "user", "error", "since", "until")
"""The parts of the filter, as the URL has them. `status` may stand several times."""

MOST_SHOWN_REFUSALS: Final = 10
LONGEST_ANSWER_S: Final = 15.0
"""So long an answer waits for what is done to many jobs; what isn't done by then goes on behind it."""

_going_on: Final[set[asyncio.Task[None]]] = set()
"""What is still done to many jobs, so that nothing collects it before its end."""


async def _jobs(request: Request) -> Response:
    dashboard, given = dashboard_of(request), request.query_params
    refusal, shown = None, None
    try:
        wanted = await filter_of(dashboard.reading, given)
        shown = await jobs_page(dashboard.reading, wanted, cursor=given.get("cursor") or None)
    except InvalidInputError as error:
        refusal = str(error)
    query = query_of(given)
    return page(
        request,
        "jobs.html",
        name="Jobs",
        status=200 if refusal is None else 422,
        shown=shown,
        refusal=refusal,
        given=shown_filter(given),
        choices=_choices(given),
        hidden=[(key, text) for key, text in given.multi_items() if key in KEYS and text],
        page_jobs=PAGE_JOBS,
        query=query,
        next_url=None if shown is None or shown.next is None else "/jobs?" + _joined(query, ("cursor", shown.next)),
        first_url=f"/jobs?{query}" if query else "/jobs",
    )


async def filter_of(runtime: Runtime, given: QueryParams) -> JobFilter:
    """Return the filter that the parameters of a URL, or the fields of a form, describe.

    Raises:
        InvalidInputError: a text holds NUL, or a time can't be read.
    """
    texts = {key: given.get(key, "").strip() for key in KEYS}
    if any("\0" in text for text in given.values()):
        raise InvalidInputError("a text holds the character NUL, which PostgreSQL can't store")
    return JobFilter(
        statuses=[one.strip() for text in given.getlist("status") for one in text.split(",") if one.strip()],
        user=await user_of_list(runtime, texts["user"]) if texts["user"] else None,
        job_type=texts["type"] or None,
        since=moment_of(texts["since"]) if texts["since"] else None,
        error=texts["error"] or None,
        tier=texts["tier"] or None,
        stage=texts["stage"] or None,
        until=moment_of(texts["until"]) if texts["until"] else None,
    )


def query_of(given: QueryParams) -> str:
    """Return the filter of a URL as a query, without what is empty."""
    return urlencode([(key, text) for key, text in given.multi_items() if key in KEYS and text])


def shown_filter(given: QueryParams) -> dict[str, str]:
    """Return what each control of the filter shows."""
    return {key: given.get(key, "") for key in KEYS} | {"status": ",".join(filter(None, given.getlist("status")))}


def _joined(query: str, further: tuple[str, str]) -> str:
    return "&".join(part for part in (query, urlencode([further])) if part)


def _choices(given: QueryParams) -> dict[str, list[tuple[str, str]]]:
    """Return the choices of each combobox: values with their words. What else the URL gives is one of them, too."""
    known = {
        "status": [one.value for one in JobStatus],
        "type": job_types(),
        "tier": [one.value for one in Tier],
        "stage": list(stage_names()),
    }
    choices = {}
    for key, values in known.items():
        text = shown_filter(given)[key]
        others = [] if not text or text in values else [text]
        choices[key] = [("", "any"), *((value, value) for value in (*values, *others))]
    return choices


_NAMES: Final[dict[Verb, str]] = {"retry": "Retry", "cancel": "Cancel"}


async def _offer_selected(request: Request, verb: Verb) -> Action:
    name = f"{_NAMES[verb]} selected"
    given = await _confirmed(request)
    names = given if given is not None else list(dict.fromkeys(request.query_params.getlist("id")))
    if not names:
        return Action(name, ["No job is selected."], back=await _back(request), is_possible=False)
    return await _offer(request, verb, name, names, [])


async def _offer_matching(request: Request, verb: Verb) -> Action:
    name = f"{_NAMES[verb]} all that match"
    given = await _confirmed(request)
    if given is not None:
        return await _offer(request, verb, name, given, [])
    dashboard = dashboard_of(request)
    wanted = await filter_of(dashboard.reading, request.query_params)
    if verb == "retry":
        wanted = replace(wanted, leaves_out_retried=True, statuses=wanted.statuses or ["FAILED", "REFUNDED"])
    else:
        wanted = replace(wanted, statuses=wanted.statuses or ["PENDING", "PROCESSING"])
    selected = await select_jobs(dashboard.reading, wanted)
    notes = []
    if len(selected.names) >= MOST_AT_ONCE and not selected.is_complete:
        notes.append(f"These are the newest {MOST_AT_ONCE:,}; there are more, for another time.")
    elif not selected.is_complete and selected.back_to is not None:
        notes.append(f"Only changes since {selected.back_to:%Y-%m-%d %H:%M:%S} UTC were looked at: narrow the filter.")
    return await _offer(request, verb, name, list(reversed(selected.names)), notes)  # in their old order


async def _offer(request: Request, verb: Verb, name: str, names: Sequence[str], notes: Sequence[str]) -> Action:
    planned = await rehearse(dashboard_of(request).runtime, verb, names)
    number = len(planned.names)
    return Action(
        name,
        [*_planned(planned), *notes],
        confirm=f"{_NAMES[verb]} {count_of(number, 'job')}",
        hidden=[("jobs", json.dumps(list(planned.names), ensure_ascii=False)), ("back", await _query(request))],
        back=await _back(request),
        is_possible=number > 0,
    )


def _planned(planned: Rehearsal) -> list[str]:
    tokens, refused = count_of(planned.tokens, "token"), f"{len(planned.refused):,} refused"
    sentences = [f"{count_of(len(planned.names), 'job')}, {tokens}, {refused}"]
    sentences += [one.detail for one in planned.refused[:MOST_SHOWN_REFUSALS]]
    if (others := len(planned.refused) - MOST_SHOWN_REFUSALS) > 0:
        sentences.append(f"and {others:,} others")
    return sentences


async def _carry(request: Request, _form: FormData, reason: str | None, verb: Verb) -> Done:
    names = await _confirmed(request)
    if not names:
        raise InvalidInputError("no job is selected")
    if len(names) > MOST_AT_ONCE:
        raise InvalidInputError(f"{len(names):,} jobs; at most {MOST_AT_ONCE:,} at once")
    outcomes: list[Outcome] = []
    task = asyncio.create_task(_do(dashboard_of(request), verb, names, request.state.operator.name, reason, outcomes))
    _going_on.add(task)
    task.add_done_callback(_going_on.discard)
    await asyncio.wait({task}, timeout=LONGEST_ANSWER_S)
    if task.done():
        task.result()
    return Done(await _back(request), _done(verb, outcomes, len(names), is_over=task.done()))


async def _do(
    dashboard: Dashboard, verb: Verb, names: Sequence[str], actor: str, reason: str | None, outcomes: list[Outcome]
) -> None:
    async for one in do_to_all(dashboard.runtime, verb, names, actor=actor, reason=reason):
        outcomes.append(one)  # noqa: PERF401 - whoever waits counts them meanwhile


def _done(verb: Verb, outcomes: Sequence[Outcome], number: int, *, is_over: bool) -> str:
    refused = [one for one in outcomes if one.refusal is not None]
    did = "tried again" if verb == "retry" else "cancelled"
    number_done = len(outcomes) - len(refused)
    text = f"{count_of(number_done, 'job')} {'is' if number_done == 1 else 'are'} {did}"
    if refused:
        text += f"; {len(refused):,} refused: {refused[0].refusal}"
    if not is_over:
        text += f"; the other {number - len(outcomes):,} follow, and the page Actions shows each"
    return text


async def _confirmed(request: Request) -> list[str] | None:
    """Return the names of the jobs that a form was shown for; None for a form that is still to be shown.

    Raises:
        InvalidInputError: the field that names them can't be read.
    """
    if request.method != "POST":
        return None
    form = await request.form()
    try:
        names = json.loads(str(form.get("jobs", "[]")))
    except ValueError as error:
        raise InvalidInputError("the jobs aren't a list of names") from error
    if not isinstance(names, list) or not all(isinstance(one, str) and "\0" not in one for one in names):
        raise InvalidInputError("the jobs aren't a list of names")
    names += [str(one) for one in form.getlist("id")]
    return list(dict.fromkeys(names))


async def _query(request: Request) -> str:
    """Return the filter of the list to which an action leads back."""
    if request.method != "POST":
        return query_of(request.query_params)
    return query_of(QueryParams(str((await request.form()).get("back", ""))))


async def _back(request: Request) -> str:
    query = await _query(request)
    return f"/jobs?{query}" if query else "/jobs"


def _bulk_routes() -> list[Route]:
    routes = []
    for verb in _NAMES:

        async def selected(request: Request, verb: Verb = verb) -> Action:
            return await _offer_selected(request, verb)

        async def matching(request: Request, verb: Verb = verb) -> Action:
            return await _offer_matching(request, verb)

        async def carry(request: Request, form: FormData, reason: str | None, verb: Verb = verb) -> Done:
            return await _carry(request, form, reason, verb)

        routes += action_routes(f"/selected/{verb}", selected, carry)
        routes += action_routes(f"/matching/{verb}", matching, carry)
    return routes


ROUTES: Final = [Route("/jobs", _jobs), *_bulk_routes()]
