"""The pages of batches: a list, and one batch with its jobs and what can be done to them."""

from typing import Final

from starlette.datastructures import FormData
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from models.applications.registry import has_pictures
from workers.dashboard.actions import Action, Done, action_routes
from workers.dashboard.names import asked_name
from workers.dashboard.rendering import page
from workers.dashboard.state import dashboard_of
from workers.operations.batch_lists import BatchFacts, batch_facts, batch_not_found, batches_page, id_of_batch
from workers.operations.batches import cancel_batch, retry_batch
from workers.operations.errors import OperationError
from workers.presentation.values import count_of


async def _batches(request: Request) -> Response:
    shown = await batches_page(dashboard_of(request).reading, request.query_params.get("cursor") or None)
    return page(request, "batches.html", name="Batches", shown=shown, has_pictures=has_pictures())


async def _batch(request: Request) -> Response:
    facts = await batch_facts(dashboard_of(request).reading, _name(request), request.query_params.get("cursor") or None)
    batch = facts.batch
    return page(
        request,
        "batch.html",
        name=batch.label or str(batch.id),
        facts=facts,
        batch=batch,
        url=f"/batches/{batch.id}",
        own_url=request.url.path + (f"?{request.url.query}" if request.url.query else ""),
    )


def _name(request: Request) -> str:
    given = request.path_params["id"]
    return asked_name(given, batch_not_found(given))


async def _facts(request: Request) -> BatchFacts:
    return await batch_facts(dashboard_of(request).reading, _name(request))


async def _offer_cancel(request: Request) -> Action:
    facts = await _facts(request)
    batch = facts.batch
    if not facts.may_be_cancelled:
        raise OperationError(f"all jobs of batch {batch.id} are over")
    sentence = "Its unfinished jobs end as CANCELLED, and what Darkroom has charged for them is refunded."
    return Action("Cancel batch", [_progress(facts), sentence], back=f"/batches/{batch.id}")


async def _cancel(request: Request, _form: FormData, reason: str | None) -> Done:
    batch_id, runtime = id_of_batch(_name(request)), dashboard_of(request).runtime
    number = await cancel_batch(runtime, batch_id, actor=request.state.operator.name, reason=reason)
    return Done(f"/batches/{batch_id}", f"{count_of(number, 'job')} {'is' if number == 1 else 'are'} cancelled.")


async def _offer_retry(request: Request) -> Action:
    facts = await _facts(request)
    batch = facts.batch
    if not facts.may_be_retried:
        raise OperationError(f"no job of batch {batch.id} has ended without success")
    sentence = (
        "Its jobs that ended without success are submitted again as a new batch, and charged: all of them, or none. "
        "Pictures that are done or under way again are left out."
    )
    return Action("Retry batch", [_progress(facts), sentence], back=f"/batches/{batch.id}")


async def _retry(request: Request, _form: FormData, reason: str | None) -> Done:
    batch_id, runtime = id_of_batch(_name(request)), dashboard_of(request).runtime
    new = await retry_batch(runtime, batch_id, actor=request.state.operator.name, reason=reason)
    verb = "is" if new.total == 1 else "are"
    said = f"{count_of(new.total, 'job')} of batch {batch_id} {verb} submitted again as this one."
    return Done(f"/batches/{new.id}", said)


def _progress(facts: BatchFacts) -> str:
    batch = facts.batch
    about = "About " if batch.is_estimate else ""
    return f"{about}{batch.over:,} of {count_of(batch.total, 'job')} are over, {batch.completed:,} with success."


ROUTES: Final = [
    Route("/batches", _batches),
    Route("/batches/{id}", _batch),
    *action_routes("/batches/{id}/cancel", _offer_cancel, _cancel),
    *action_routes("/batches/{id}/retry", _offer_retry, _retry),
]
