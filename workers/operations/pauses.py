"""Operators' pauses of a queue, job type, tier or provider; all processes obey them."""

from collections.abc import Iterable
from functools import partial
from typing import Literal

from config.tiers import Tier
from models.applications.registry import job_types
from models.connections import Connection
from models.gate.operating import close_breaker
from models.history.actions import record_action
from models.queue.counts import job_groups
from models.queue.pause_records import (
    LastingPause,
    begin_pause,
    end_pause,
    known_queues,
    lasting_pauses,
    lock_pauses,
    pause_state,
)
from models.queue.pauses import hold_paused, let_go_on
from pipelines.providers.registry import PROVIDERS
from workers.operations.errors import NotFoundError
from workers.process.runtime import Runtime

Kind = Literal["queue", "type", "tier", "provider"]


async def set_paused(
    runtime: Runtime,
    scopes: Iterable[tuple[Kind, str]],
    *,
    is_paused: bool,
    actor: str,
    reason: str | None = None,
) -> list[LastingPause]:
    """Begin or end a pause; return the present pauses. Idempotent.

    When the pause of a provider ends, its open breaker is closed too, so that it is called at once. A pause doesn't
    stop running jobs. Waiting jobs keep their positions, and the pause isn't counted in their maximum wait.

    Raises:
        NotFoundError: there is no such queue, job type, tier or provider.
    """
    wanted = list(scopes)
    for kind, value in wanted:
        await _require(runtime, kind, value)

    async def change(connection: Connection) -> None:
        async with connection.transaction():
            await lock_pauses(connection)
            for kind, value in wanted:
                name = f"{kind}:{value}"
                if kind == "provider" and not is_paused:
                    await _close_breaker(connection, value, actor, reason)
                before = await pause_state(connection, name)
                if (before is not None) == is_paused:
                    continue
                after = None
                if is_paused:
                    after = await begin_pause(connection, name, actor, reason)
                else:
                    await end_pause(connection, name)
                await record_action(
                    connection,
                    actor=actor,
                    action="queue_pause" if is_paused else "queue_resume",
                    target=name,
                    before=before,
                    after=after,
                    reason=reason,
                )

    await runtime.database.commit("change_pauses", change)
    await _move_rows(runtime)

    async def look(connection: Connection) -> list[LastingPause]:
        return await lasting_pauses(connection, await job_groups(connection))

    return await runtime.database.run(look)


async def _close_breaker(connection: Connection, provider: str, actor: str, reason: str | None) -> None:
    before = await close_breaker(connection, provider)
    if before is not None:
        target = f"provider:{provider}"
        await record_action(
            connection, actor=actor, action="breaker_close", target=target, before=before, reason=reason
        )


async def _move_rows(runtime: Runtime) -> None:
    """Remove queue rows of paused jobs from the index that claims read, or put them back.

    If this process ends before the move is finished, workers finish it.
    """
    while queues := await runtime.database.commit("let_go_on", let_go_on):
        for queue in queues:
            await runtime.wake(queue)
    for queue in await runtime.database.run(known_queues):
        after: int | None = -1
        while after is not None:
            held = await runtime.database.commit("hold_paused", partial(hold_paused, queue=queue, after=after))
            after = held.last


async def _require(runtime: Runtime, kind: Kind, value: str) -> None:
    match kind:
        case "queue":
            known = {*runtime.settings.queues, *await runtime.database.run(known_queues)}
        case "type":
            known = set(job_types())
        case "tier":
            known = {tier.value for tier in Tier}
        case "provider":
            known = set(PROVIDERS)
    if value not in known:
        raise NotFoundError(f"there is no {kind} {value!r}; known: {', '.join(sorted(known))}")
