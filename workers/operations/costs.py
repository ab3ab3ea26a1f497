"""What provider calls cost, and the switch that stops buying."""

from models.connections import Connection
from models.gate import costs
from models.gate.costs import By, CostLine
from models.history.actions import record_action
from models.queue.pause_records import Buying, switch_buying
from models.schema.settings import recorded_setting
from workers.process.runtime import Runtime


async def list_costs(
    runtime: Runtime, by: By, *, days: int = 30, limit: int = 50, job_id: str | None = None
) -> list[CostLine]:
    """Return calls, units and USD of the last days, of one job or of all, by payer, model, day (of UTC) or job."""
    return await runtime.database.run(
        lambda connection: costs.list_costs(connection, by, days=days, most=limit, job_id=job_id)
    )


async def count_costs(runtime: Runtime, by: By, *, days: int = 30, job_id: str | None = None) -> int:
    """Count the lines that `list_costs` lists."""
    return await runtime.database.run(lambda connection: costs.count_costs(connection, by, days=days, job_id=job_id))


async def set_buying(runtime: Runtime, *, is_stopped: bool, actor: str, reason: str | None = None) -> Buying:
    """Turn the kill switch: nothing is bought from the next call on; free providers go on. Return its state."""
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
