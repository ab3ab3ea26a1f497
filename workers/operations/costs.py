"""Costs of provider calls, and the kill switch for paid calls."""

from models.connections import Connection
from models.gate import costs, operating
from models.gate.costs import By, CostLine
from models.gate.operating import UNKNOWN, LeftOpen, acknowledge_call, call_state, calls_left_open
from models.history.actions import record_action, record_job_action
from models.queue.pause_records import Buying, switch_buying
from models.schema.settings import recorded_setting
from workers.operations.errors import InvalidInputError, NotFoundError, translated
from workers.operations.recorded import recorded_job
from workers.process.runtime import Runtime


async def list_costs(
    runtime: Runtime, by: By, *, days: int = 30, limit: int = 50, job: str | None = None
) -> list[CostLine]:
    """Return calls, units and USD of the last `days` days, grouped by payer, model, day (UTC) or job.

    With a `job`, an id or TABLE/ID, only that job's calls are counted, also after its row is deleted.

    Raises:
        InvalidInputError: the id stands in several tables.
    """

    async def read(connection: Connection) -> list[CostLine]:
        job_id, types = (None, None) if job is None else await recorded_job(connection, job)
        return await costs.list_costs(connection, by, days=days, most=limit, job_id=job_id, types=types)

    with translated():
        return await runtime.database.run(read)


async def count_costs(runtime: Runtime, by: By, *, days: int = 30, job: str | None = None) -> int:
    """Count the lines that `list_costs` would return without a limit."""

    async def count(connection: Connection) -> int:
        job_id, types = (None, None) if job is None else await recorded_job(connection, job)
        return await costs.count_costs(connection, by, days=days, job_id=job_id, types=types)

    with translated():
        return await runtime.database.run(count)


async def list_left_open(runtime: Runtime, *, limit: int = 50) -> list[LeftOpen]:
    """Return the provider calls whose worker died before their end and that no operator has acknowledged."""
    return await runtime.database.run(lambda connection: calls_left_open(connection, limit))


async def count_left_open(runtime: Runtime) -> int:
    """Count the calls that `list_left_open` would return without a limit."""
    return await runtime.database.run(operating.count_left_open)


async def acknowledge(runtime: Runtime, call_id: int, *, actor: str, reason: str | None = None) -> str:
    """Record that an operator acknowledged a call left open; return its job's id. Budgets still count it as paid.

    Raises:
        InvalidInputError: the call's end is known, or its worker may still record it.
        NotFoundError: there is no such call.
    """

    async def note(connection: Connection) -> str:
        async with connection.transaction():
            call = await call_state(connection, call_id)
            if call is None:
                raise NotFoundError(
                    f"call {call_id} not found; `darkroom costs --open` lists those that were left open"
                )
            if call.outcome == UNKNOWN:
                return call.job_id
            if call.outcome != "open":
                raise InvalidInputError(f"call {call_id} isn't open: it has ended")
            if not call.is_left_open:
                raise InvalidInputError(
                    f"call {call_id} may be in flight; look again a quarter of an hour after it began"
                )
            await acknowledge_call(connection, call_id, "a call whose end nobody knows")
            await record_job_action(
                connection,
                call.job_type,
                call.job_id,
                actor=actor,
                action="call_acknowledge",
                after={"call": call_id},
                reason=reason,
            )
            return call.job_id

    return await runtime.database.commit("acknowledge_call", note)


async def set_buying(runtime: Runtime, *, is_stopped: bool, actor: str, reason: str | None = None) -> Buying:
    """Turn the kill switch on or off and return its state. If it is on, only calls that aren't paid are made."""
    state = Buying(stopped=is_stopped, reason=reason, actor=actor)

    async def switch(connection: Connection) -> None:
        async with connection.transaction():
            before = await recorded_setting(connection, "buying")
            await switch_buying(connection, state)
            await record_action(
                connection,
                actor=actor,
                action="buying",
                target="all",
                before=before,
                after={"stopped": is_stopped, "reason": reason, "actor": actor},
                reason=reason,
            )

    await runtime.database.commit("switch_buying", switch)
    return state
