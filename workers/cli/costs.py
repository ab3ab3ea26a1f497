"""The command costs: the costs of provider calls, and the kill switch."""

from enum import StrEnum
from functools import partial
from typing import Annotated, Final

import typer

from models.gate.costs import CostLine
from models.gate.operating import LeftOpen
from workers.cli.failures import DONE, FAILED, CommandUsageError
from workers.cli.opening import run_with_runtime
from workers.cli.output import note, print_json
from workers.cli.parameters import Json, Limit, Reason
from workers.cli.tables import Column, column, note_count, print_table
from workers.operations import costs as costs_operations
from workers.operations.actions import os_user
from workers.operations.costs import count_costs, count_left_open, list_costs, list_left_open, set_buying
from workers.operations.errors import OperationError
from workers.operations.ids import whole_id
from workers.presentation.steering import buying_words
from workers.presentation.values import chosen
from workers.process.runtime import Runtime

MOST_CALL: Final = 2**63 - 1
"""The largest number that a call can have: PostgreSQL's bigint."""


class ByName(StrEnum):
    """What costs are grouped by."""

    USER = "user"
    MODEL = "model"
    DAY = "day"
    JOB = "job"


OfJob = Annotated[
    str | None,
    typer.Option("--job", metavar="JOB_ID", help="Only calls of this job, given by its id or the beginning of it."),
]


def costs(
    by: Annotated[ByName, typer.Option("--by", help="What the calls are added up by; days are UTC's.")] = ByName.MODEL,
    days: Annotated[
        int, typer.Option("--days", metavar="N", min=1, max=4000, help="Only calls of the last N days.")
    ] = 30,
    job: OfJob = None,
    limit: Limit = 50,
    acknowledge: Annotated[
        list[int] | None,
        typer.Option(
            "--acknowledge",
            metavar="CALL",
            min=1,
            max=MOST_CALL,
            help="Record that you looked at this call, whose number --open shows. May be repeated.",
        ),
    ] = None,
    reason: Reason = None,
    *,
    is_open: Annotated[
        bool, typer.Option("--open", help="List calls whose worker died before the answer came.")
    ] = False,
    stop: Annotated[
        bool, typer.Option("--stop", help="Turn the kill switch on: no paid call is made, and jobs that need one wait.")
    ] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Turn the kill switch off.")] = False,
    as_json: Json = False,
) -> int:
    """Show what provider calls cost; --stop and --resume turn the kill switch.

    A call whose worker died before the answer came stays open. It may have been paid, and budgets count it as paid.
    Once you have compared it with the provider's bill, record that by --acknowledge: then `doctor` and --open no longer
    name the call, but budgets still count it.
    """
    if sum((stop, resume, is_open, acknowledge is not None)) > 1:
        raise CommandUsageError("--stop, --resume, --open and --acknowledge exclude each other; give one")

    async def work(runtime: Runtime) -> int:
        if stop or resume:
            await _set_buying(runtime, reason, is_stopped=stop, as_json=as_json)
            return DONE
        if acknowledge is not None:
            return await _acknowledge(runtime, acknowledge, reason, as_json=as_json)
        if is_open:
            calls = await list_left_open(runtime, limit=limit)
            _print_open(calls, as_json=as_json)
            if not as_json:
                await note_count(len(calls), limit, "calls", lambda: count_left_open(runtime))
            return DONE
        name = None if job is None else await whole_id(runtime, "job", job)
        lines = await list_costs(runtime, by.value, days=days, limit=limit, job=name)
        if as_json:
            print_json([{**line.group, **chosen(line, _FIGURES)} for line in lines])
            return DONE
        _print_costs(lines, by, days)
        await note_count(len(lines), limit, "lines", lambda: count_costs(runtime, by.value, days=days, job=name))
        return DONE

    return run_with_runtime(work)


async def _set_buying(runtime: Runtime, reason: str | None, *, is_stopped: bool, as_json: bool) -> None:
    state = await set_buying(runtime, is_stopped=is_stopped, actor=os_user(), reason=reason)
    if as_json:
        print_json(state)
    else:
        typer.echo(buying_words(is_stopped=is_stopped) + ("; `darkroom costs --resume` goes on" if is_stopped else ""))


async def _acknowledge(runtime: Runtime, calls: list[int], reason: str | None, *, as_json: bool) -> int:
    code, done = DONE, []
    for call in calls:
        try:
            job_id = await costs_operations.acknowledge(runtime, call, actor=os_user(), reason=reason)
        except OperationError as error:
            note(f"darkroom: {error}")
            code = FAILED
            continue
        done.append({"id": call, "job_id": job_id})
        if not as_json:
            typer.echo(f"call {call} of job {job_id} is noted as looked at; it counts as before")
    if as_json:
        print_json(done)
    return code


def _print_open(calls: list[LeftOpen], *, as_json: bool) -> None:
    if as_json:
        print_json(calls)
        return
    names = ("id", "started_at", "provider", "model", "purpose", "job_id")
    titles = {"id": "call", "started_at": "at", "job_id": "job"}
    usd = Column("USD", lambda call: f"{call.quoted_usd:.4f}" if call.may_be_paid else "free", is_number=True)
    columns = [Column(titles.get(name, name), partial(_attribute, name)) for name in names]
    print_table(calls, [*columns, usd], empty="no call was left open")


def _attribute(name: str, call: LeftOpen) -> object:
    value = getattr(call, name)
    return str(value) if name == "id" else value


def _print_costs(lines: list[CostLine], by: ByName, days: int) -> None:
    names = {ByName.MODEL: ["provider", "model"], ByName.JOB: ["type", "job"]}.get(by, [by.value])
    groups = [Column(name, partial(_group, name)) for name in names]
    figures = [column(name, is_number=True) for name in ("calls", "answered", "images")]
    units = [column(name, name.replace("_", " "), is_number=True, is_wide=True) for name in _UNITS]
    usd = Column("USD", lambda line: f"{line.cost_usd:.4f}", is_number=True)
    print_table(lines, [*groups, *figures, *units, usd], empty=f"nothing was bought in {days} days")


def _group(name: str, line: CostLine) -> str | None:
    return line.group[name]


_UNITS = ("prompt_units", "output_units")
_FIGURES = ("calls", "answered", "open", "images", *_UNITS, "cost_usd")
