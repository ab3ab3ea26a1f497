"""The part of the statement for transitions (`models.queue.transition_statements`) that hands jobs over."""

from typing import Final

from models.job_state import JobStatus
from models.job_tables.rendering import NEXT, assigned, label, over
from models.job_tables.table import JobTable


def handed_over(table: JobTable, at_its_place: str) -> str:
    """Return the write of a claim whose job goes on in another queue. A claimer gives it a tag there (fair.sql).

    Args:
        table: the table of the jobs.
        at_its_place: the condition that finds a job's row.
    """
    cost = f"darkroom.fair_cost({over(table.tier, 'j')}, ({over(table.cost, 'j')})::integer)"
    return f"""
    handed AS (
        UPDATE {table.name} j
        SET {assigned(table, [f"{table.status_column} = {label(table, JobStatus.PENDING)}"], NEXT)}
        FROM held WHERE held.kind = 'handedover' AND {at_its_place}
        RETURNING held.n, j.{table.status_column} AS label, {cost} AS cost),
    queue_handed AS (
        UPDATE darkroom.job_queue q
        SET worker_id = NULL, lease_token = NULL, deadline_at = NULL, ready = false, status = 'pending',
            scheduled_at = now(), attempts = q.attempts - 1, queue = held.queue, held_by = 'tag',
            units = handed.cost * 1000000
        FROM held JOIN handed USING (n) WHERE q.ctid = held.queue_at
        RETURNING q.queue)"""


WAKES: Final = (
    ",\n       (SELECT count(darkroom.send_wake_up(o.queue)) FROM (SELECT DISTINCT h.queue FROM queue_handed h) o)"
)
"""A column of the statement: it wakes the workers of these queues when its transaction is committed."""
