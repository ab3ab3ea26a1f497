"""Operators' changes of the fair order: caps on users' running jobs, weights, and the head start."""

from collections.abc import Mapping
from typing import Any

from models.connections import Connection
from models.history.actions import record_action
from models.queue.fair import Term, fair_terms, record_term, settle_slots
from workers.process.runtime import Runtime


async def change_terms(
    runtime: Runtime, changes: Mapping[Term, Any], *, actor: str, reason: str | None = None
) -> dict[Term, Any]:
    """Record terms of the fair order, and make them hold for jobs that wait; return all terms. Idempotent.

    Weights and the head start hold for jobs that enter from now on. Lower caps keep no running job from going on.
    """

    async def change(connection: Connection) -> None:
        async with connection.transaction():
            recorded = await fair_terms(connection)
            for key, value in changes.items():
                if value != recorded[key]:
                    await record_term(connection, key, value)
                    await record_action(
                        connection,
                        actor=actor,
                        action="fair_order",
                        target=key,
                        before={key: recorded[key]},
                        after={key: value},
                        reason=reason,
                    )

    await runtime.database.commit("change_fair_terms", change)
    if "user_caps" in changes:
        await settle_slots(runtime.database)
    return await runtime.database.run(fair_terms)
