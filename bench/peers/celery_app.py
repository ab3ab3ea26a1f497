"""Celery: prefork workers, Redis as its broker, psycopg for the rows; late acknowledgement, so that no job is lost.

A job whose worker is killed runs again from its start, an hour later (Redis's visibility timeout), or beside the first
run if that only took longer. Charging, a status that other programs can trust, and the record of what was paid are left
to the application.
"""

import celery.signals
import psycopg
from celery import Celery

from bench.peers.steps import STEPS, database_url, redis_url, statement

app = Celery("bench", broker=redis_url().replace("unix://", "redis+socket://"))
app.conf.update(task_ignore_result=True, task_acks_late=True, worker_prefetch_multiplier=16)
connections: list[psycopg.Connection] = []


@celery.signals.worker_process_init.connect
def connect(**_: object) -> None:
    options = "-c session_replication_role=replica"
    connections.append(psycopg.connect(database_url(), autocommit=True, options=options, prepare_threshold=1))


@app.task
def enhance(job: str) -> None:
    for step in STEPS:
        connections[0].execute(statement(step, "%s"), [job])


def queue_jobs(prefix: str, count: int) -> None:
    """Queue the jobs `PREFIX1` to `PREFIXn`."""
    with app.producer_pool.acquire(block=True) as producer:
        for number in range(1, count + 1):
            enhance.apply_async([f"{prefix}{number}"], producer=producer)
