"""The command costs: what provider calls cost, and the switch that stops buying."""

from enum import StrEnum
from functools import partial
from typing import Annotated

import typer

from models.gate.costs import CostLine
from workers.cli.failures import DONE, CommandUsageError
from workers.cli.opening import run_with_runtime
from workers.cli.output import chosen, print_json
from workers.cli.parameters import Json, Limit, Reason
from workers.cli.tables import Column, column, note_count, print_table
from workers.operations.actions import os_user
from workers.operations.costs import count_costs, list_costs, set_buying
from workers.operations.ids import whole_id
from workers.process.runtime import Runtime


class ByName(StrEnum):
    """What costs are added up by."""

    USER = "user"
    MODEL = "model"
    DAY = "day"
    JOB = "job"


OfJob = Annotated[str | None, typer.Option("--job", metavar="ID", help="Of one job only: its id, or its beginning.")]


def costs(
    by: Annotated[ByName, typer.Option("--by", help="Add up by who pays, model, day or job.")] = ByName.MODEL,
    days: Annotated[int, typer.Option("--days", min=1, max=4000, help="Of the last so many days.")] = 30,
    job: Annotated[
        str | None, typer.Option("--job", metavar="ID", help="Of one job only, or the beginning of its id.")
    ] = None,
    limit: Limit = 50,
    reason: Reason = None,
    *,
    stop: Annotated[bool, typer.Option("--stop", help="Buy nothing more; free work goes on.")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Buy again.")] = False,
    as_json: Json = False,
) -> int:
    """Show what provider calls cost; --stop and --resume turn the kill switch."""
    if stop and resume:
        raise CommandUsageError("--stop and --resume exclude each other; give one")

    async def work(runtime: Runtime) -> int:
        if stop or resume:
            state = await set_buying(runtime, is_stopped=stop, actor=os_user(), reason=reason)
            if as_json:
                print_json(state)
            else:
                typer.echo("buying is stopped; `darkroom costs --resume` goes on" if stop else "buying goes on")
            return DONE
        job_id = None if job is None else await whole_id(runtime, "job", job)
        lines = await list_costs(runtime, by.value, days=days, limit=limit, job_id=job_id)
        if as_json:
            print_json([{**line.group, **chosen(line, _FIGURES)} for line in lines])
            return DONE
        names = {ByName.MODEL: ["provider", "model"], ByName.JOB: ["type", "job"]}.get(by, [by.value])
        groups = [Column(name, partial(_group, name)) for name in names]
        figures = [column(name, is_number=True) for name in ("calls", "answered", "images")]
        units = [column(name, name.replace("_", " "), is_number=True, is_wide=True) for name in _UNITS]
        usd = Column("USD", lambda line: f"{line.cost_usd:.4f}", is_number=True)
        print_table(lines, [*groups, *figures, *units, usd], empty=f"nothing was bought in {days} days")
        await note_count(len(lines), limit, "lines", lambda: count_costs(runtime, by.value, days=days, job_id=job_id))
        return DONE

    return run_with_runtime(work)


def _group(name: str, line: CostLine) -> str | None:
    return line.group[name]


_UNITS = ("prompt_units", "output_units")
_FIGURES = ("calls", "answered", "open", "images", *_UNITS, "cost_usd")
