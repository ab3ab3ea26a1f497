"""The page of one job: what became of it, why it waits, its pictures, and what can be done about it."""

from collections.abc import Mapping
from typing import Any, Final

from starlette.datastructures import FormData
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from models.job_state import TERMINAL
from models.queue.job_names import JobKey
from workers.dashboard.actions import Action, Done, Field, action_routes
from workers.dashboard.names import name_of, segment
from workers.dashboard.rendering import page
from workers.dashboard.state import dashboard_of
from workers.operations.errors import InvalidInputError, JobNotCancellableError, JobNotRetryableError
from workers.operations.job_facts import JobFacts, job_facts
from workers.operations.jobs import cancel_job, get_jobs_at, job_not_found
from workers.operations.models import known_models
from workers.operations.retrying import RetryTerms, retry_jobs
from workers.presentation.call_outcomes import outcome_words
from workers.presentation.outlooks import outlook_words
from workers.presentation.wording import event_words, over_words, waiting_words

_NO_STAGE: Final = ("", "the beginning")
_NO_MODEL: Final = ("", "as before")


async def _job(request: Request) -> Response:
    facts = await _facts(request)
    known, job = facts.explanation, facts.job
    max_wait_s = dashboard_of(request).runtime.settings.max_wait_s
    return page(
        request,
        "job.html",
        name=f"Job {known.job_id if job is None else job.name}",
        facts=facts,
        job=job,
        url=request.url.path,
        is_live=job is not None and job.status not in TERMINAL,
        status_words=_status_words(facts),
        stage=_stage(facts),
        waits=[waiting_words(one, max_wait_s) for one in known.waits],
        outlook="" if known.outlook is None else outlook_words(known.outlook),
        over="" if job is None or known.waits else over_words(job),
        timeline=[(event, event_words(event, known.job_id)) for event in known.timeline],
        calls=[(call, outcome_words(call.outcome)) for call in facts.calls],
        cost_usd=sum((call.cost_usd for call in facts.calls if call.cost_usd is not None), start=0),
        measured=_measured(facts),
        row={} if job is None else _row(job.columns),
    )


async def _facts(request: Request) -> JobFacts:
    return await job_facts(dashboard_of(request).reading, job_name(request))


def job_name(request: Request) -> str:
    """Return the name of the job that a URL asks for.

    Raises:
        NotFoundError: it is no name.
    """
    given = request.path_params["id"]
    try:
        return name_of(given)
    except ValueError as error:
        raise job_not_found(given) from error


def _stage(facts: JobFacts) -> str | None:
    """Return the stage that a job's row shows, or else the one that an unfinished job has in the queue."""
    job, outlook = facts.job, facts.explanation.outlook
    if job is None:
        return None
    return job.stage or (outlook.stage if outlook is not None else None)


def _status_words(facts: JobFacts) -> str:
    """Return the status, and while a job that has begun is unfinished, its stage and its attempt."""
    job = facts.job
    if job is None:
        return "deleted"
    if job.status in TERMINAL:
        return job.status
    run, outlook = facts.last_run, facts.explanation.outlook
    attempt = outlook.attempt if outlook is not None and outlook.attempt else (run.attempt if run else None)
    if not attempt:
        return job.status
    return f"{job.status}, {_stage(facts) or 'no stage'}, attempt {attempt}"


def _measured(facts: JobFacts) -> dict[str, Any]:
    """Return what was found in the original and what was made of it, by name."""
    found: dict[str, Any] = {}
    output = facts.outputs.get("ANALYZING")
    if isinstance(output, Mapping) and isinstance(output.get("result"), Mapping):
        result = output["result"]
        defects = result.get("defects")
        if isinstance(defects, Mapping):
            present = [_spaced(name) for name, value in defects.items() if value is True]
            found["Defects"] = present or "none"
        for name in ("mainSubject", "imageStyle", "lightingCondition"):
            if result.get(name):
                found[_spaced(name)] = result[name]
        found["Analysed by"] = output.get("source")
    found |= {
        _spaced(name): round(value, 3) for name, value in facts.measures.items() if isinstance(value, int | float)
    }
    if facts.treatments:
        found["Done to it"] = list(facts.treatments)
    job = facts.job
    if job is not None:
        names = {
            "width_px": "Width",
            "height_px": "Height",
            "size_bytes": "Bytes",
            "model": "Model",
            "temperature": "Temperature",
        }
        for column, fact in job.key.table.result.items():
            value = job.columns.get(column.strip('"'))
            if fact in names and value is not None:
                found[names[fact]] = value
    return {name: value for name, value in found.items() if value is not None}


def _spaced(name: str) -> str:
    """Return a name such as `isLowResolution` or `noise_sigma` in words."""
    text = "".join(f" {char.lower()}" if char.isupper() else char for char in name).replace("_", " ").strip()
    return text.removeprefix("is ").removeprefix("has ").capitalize()


def _row(columns: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in columns.items() if value is not None and value != ""}


async def _offer_retry(request: Request) -> Action:
    facts = await _facts(request)
    job = facts.job
    if job is None:
        raise job_not_found(job_name(request))
    if not facts.may_be_retried:
        raise JobNotRetryableError(job.name, job.status)
    models = await known_models(dashboard_of(request).reading)
    return Action(
        "Retry job",
        [f"Job {job.name} is submitted once more, as a new job, which is charged."],
        [
            Field("from_stage", "From stage", [_NO_STAGE, *((one, one) for one in facts.stages)]),
            Field("model", "Model", [_NO_MODEL, *((one, one) for one in models)]),
        ],
        # so that a form that is sent twice doesn't make two jobs
        hidden=[("again", "1" if _is_retried(facts) else "")],
        back=_url(job.name),
    )


def _is_retried(facts: JobFacts) -> bool:
    job = facts.job
    return any(one.action == "job_retry" and job is not None and one.target == job.id for one in facts.actions)


async def _retry(request: Request, form: FormData, reason: str | None) -> Done:
    name = job_name(request)
    stage, model = (str(form.get(key, "")).strip() or None for key in ("from_stage", "model"))
    terms = RetryTerms(stage, model, only_once=not form.get("again"))
    runtime, actor = dashboard_of(request).runtime, request.state.operator.name
    async for one in retry_jobs(runtime, [name], terms, actor=actor, reason=reason):
        if one.refusal is not None or one.new_id is None or one.old is None:
            raise one.refusal or InvalidInputError(f"job {name} can't be tried again")
        new = await get_jobs_at(runtime, [JobKey(one.old.key.table, one.new_id)])
        return Done(_url(new[0].name if new else one.new_id), f"Job {name} is tried again as this one.")
    raise job_not_found(name)


async def _offer_cancel(request: Request) -> Action:
    facts = await _facts(request)
    job = facts.job
    if job is None:
        raise job_not_found(job_name(request))
    if not facts.may_be_cancelled:
        raise JobNotCancellableError(job.name, job.status)
    return Action(
        "Cancel job",
        [f"Job {job.name} ends as CANCELLED, and what Darkroom has charged for it is refunded."],
        back=_url(job.name),
    )


async def _cancel(request: Request, _form: FormData, reason: str | None) -> Done:
    name = job_name(request)
    runtime = dashboard_of(request).runtime
    status = await cancel_job(runtime, name, actor=request.state.operator.name, reason=reason)
    return Done(_url(name), f"Job {name} is {status}.")


def _url(name: str) -> str:
    return f"/jobs/{segment(name)}"


ROUTES: Final = [
    Route("/jobs/{id}", _job),
    *action_routes("/jobs/{id}/retry", _offer_retry, _retry),
    *action_routes("/jobs/{id}/cancel", _offer_cancel, _cancel),
]
