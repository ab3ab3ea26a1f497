"""Every kind of step of the model (tests/model), made with the real code: model and code must agree."""

import random
from datetime import timedelta
from functools import lru_cache

import pytest

from models.gate.provider_calls import CallOutcome, CallPlan, close_call, open_call
from models.history.artifacts import record_artifact
from models.queue.claims import ClaimLostError, wake_due
from models.queue.leases import renew_lease
from models.queue.rescue import end_overdue_jobs, release_claims, rescue_lost_claims
from models.queue.transitions import Checkpoint, Completed, Failed, HandedOver, Released, Retried, Snoozed, record
from tests.model.machine import Machine, name
from tests.model.state import ANALYZING, DEAD, DELETED, GENERATING, KEPT, NEW, NOBODY
from tests.support.builders import (
    claim_jobs,
    make_artifact,
    make_image,
    make_job,
    make_user,
    make_worker,
    money_violations,
    set_status,
)
from tests.support.periodic_rows import move_tokens

PRICE = 2
"""What the model's one token is here."""

HOUR = timedelta(hours=1)
MOST_MORE = 12
MACHINE = Machine(meddling=1)

SEEN = """
SELECT j.status, q.status AS queue_status, q.stage, q.attempts, q.worker_id, q.suspect_of, b.balance,
       (SELECT count(*) FROM darkroom.stage_runs r
        WHERE r.job_id = $1 AND r.event = 'rescued' AND r.stage = q.stage) AS kills,
       (SELECT count(*) FROM darkroom.job_money m WHERE m.job_id = $1 AND m.kind = 'charge') AS charges,
       (SELECT count(*) FROM darkroom.job_money m WHERE m.job_id = $1 AND m.kind = 'refund') AS refunds,
       (SELECT count(*) FROM darkroom.provider_calls c
        WHERE c.job_id = $1 AND c.purpose = 'generate' AND c.may_be_paid) AS paid,
       (SELECT count(*) FROM darkroom.artifacts a WHERE a.job_id = $1) AS artifacts
FROM public.user_token_balances b
LEFT JOIN darkroom.jobs j ON j.id = $1
LEFT JOIN darkroom.job_queue q ON q.job_id = $1
WHERE b."userId" = $2
"""


def retried(claim):
    """Return what the runner makes of a transient error."""
    return Failed("x", "no") if claim.attempt >= claim.max_attempts else Retried("x", "again", HOUR)


WRITES = {
    "commits the checkpoint": lambda _claim: Checkpoint(ANALYZING, GENERATING, 60, 1),
    "completes the job": lambda _claim: Completed(GENERATING, 1, {}),
    "fails for good": lambda claim: Failed(claim.stage, "no"),
    "fails": lambda claim: Failed(claim.stage, "no"),
    "retries": retried,
    "snoozes": lambda claim: Snoozed(claim.stage, "busy", HOUR),
    "releases the job": lambda claim: Released(claim.stage),
    "hands the job over": lambda claim: HandedOver(claim.stage, "default"),
    "releases": lambda claim: Released(claim.stage),
    "cuts its call off and releases": lambda claim: Released(claim.stage),
}


class World:
    """The model's world in a real database."""

    def __init__(self, database):
        self.database = database
        self.workers = []
        self.claims = [None, None]
        self.unknown = None
        self.intents = [None, None]
        self.job_id = None

    async def begin(self):
        self.user_id = await make_user(self.database, balance=PRICE)
        self.image_id = await make_image(self.database, self.user_id)
        self.workers = [await make_worker(self.database) for _ in range(2)]

    async def run(self, work):
        return await self.database.run(work)

    async def write(self, number, transition):
        await self.run(lambda connection: record(connection, self.claims[number], transition))

    async def take(self, step):
        """Do what a step of the model says."""
        for number in range(2):
            if step.label.startswith(f"{name(number)} "):
                await self.work(number, step.label.removeprefix(f"{name(number)} "), step)
                return
        if step.label.startswith("the foreign program sets "):
            await set_status(self.database, self.job_id, step.label.rsplit(" ", 1)[-1])
            return
        await self.others(step.label)

    async def others(self, label):
        match label:
            case "the producer submits, and is charged":
                self.job_id = await make_job(
                    self.database, user_id=self.user_id, image_id=self.image_id, maxRetries=1, tier="TIER_1K"
                )
            case "the user buys something else":
                now = await self.database.fetchval("SELECT clock_timestamp()")
                await move_tokens(self.database, self.user_id, -PRICE, now, "SPEND_BOX_CREATION")
            case "the scheduler wakes the job":
                await self.database.fetch("UPDATE darkroom.job_queue SET scheduled_at = now()")
                await self.run(wake_due)
            case "the scheduler rescues the job" | "the scheduler ends the job instead of a rescue":
                not_after = await self.database.fetchval("SELECT clock_timestamp() + interval '3 s'")
                await rescue_lost_claims(self.database, not_after)
            case "the scheduler ends the job: its maximum wait is over":
                assert await end_overdue_jobs(self.database, 0) == 1
            case "the canceller cancels the job":
                await self.database.fetch("SELECT darkroom.cancel_job($1)", self.job_id)
            case "the foreign program deletes the row":
                await self.database.fetch("DELETE FROM public.image_enhancement_jobs WHERE id = $1", self.job_id)
            case _:
                pytest.fail(f"the replay knows no step {label!r}")

    async def lease(self, number, lease_s):
        await self.run(
            lambda connection: renew_lease(
                connection, self.workers[number], host="here", pid=1, queues=["default"], lanes=1, lease_s=lease_s
            )
        )

    async def work(self, number, what, step):
        claim = self.claims[number]
        what = what.split(":")[0]  # the rest is a reason
        if what in WRITES:
            await self.write(number, WRITES[what](claim))
        elif step.buys:
            plan = CallPlan("p", "generate" if step.buys == GENERATING else "analyze", may_be_paid=True)
            self.intents[number] = (await self.run(lambda connection: open_call(connection, claim, plan))).intent
        elif what in {"dies", "stops for longer than the lease", "goes on"}:
            await self.lease(number, 60 if what == "goes on" else -1)
            if what == "dies":
                self.workers[number] = await make_worker(self.database)
        else:
            await self.hold(number, what, claim)

    async def hold(self, number, what, claim):
        match what:
            case "claims the job":
                (self.claims[number],) = await claim_jobs(self.database, self.workers[number])
            case "claims the job, and never hears of it":
                (self.unknown,) = await claim_jobs(self.database, self.workers[number])
            case "gives back a claim that it doesn't know":
                await release_claims(self.database, [self.unknown.lease_token])
            case "can't write, its claim is gone":
                for transition in (Completed(claim.stage, 1, {}), Failed(claim.stage, "late")):
                    with pytest.raises(ClaimLostError):
                        await self.write(number, transition)
            case "is refused by the provider":
                refused = CallOutcome("ThrottledError", may_be_paid=False, latency_ms=1)
                await self.run(lambda connection: close_call(connection, self.intents[number], refused))
            case "records the artifact":
                await self.run(lambda connection: record_artifact(connection, claim, make_artifact()))
            case _:  # in the worker's memory, or in the storage
                assert what.split(" ")[0] in {"has", "stores", "finds", "hears"}, what

    async def seen(self):
        """Return what the model's state says, as the tables have it."""
        row = await self.database.fetchrow(SEEN, self.job_id, self.user_id)
        status = row["status"] or DELETED
        return {
            "status": NEW if self.job_id is None else status,
            "queue": self.seen_queue(row),
            "balance": row["balance"] // PRICE,
            "charges": row["charges"],
            "refunds": row["refunds"],
            "paid": row["paid"],
            "artifact": KEPT if row["artifacts"] else None,
        }

    def seen_queue(self, row):
        if row["stage"] is None:
            return None
        worker, workers = row["worker_id"], self.workers
        holder = NOBODY if worker is None else workers.index(worker) if worker in workers else DEAD
        is_suspect = row["suspect_of"] is not None
        return row["queue_status"], row["stage"], row["attempts"], holder, row["kills"], is_suspect


def expected(state):
    """Return the same of a state of the model. Whether a job has its tag isn't compared: the next claim gives one."""
    names = ("status", "balance", "charges", "refunds", "paid", "artifact")
    return {name: getattr(state, name) for name in names} | {
        "queue": state.queue and tuple(state.queue._replace(has_tag=True))[:-1]
    }


@lru_cache
def ways_to_every_step():
    """Return a shortest way to each kind of step that there is, as steps, by the last one's label."""
    came_from, states, first = {MACHINE.start: None}, [MACHINE.start], {}
    for state in states:
        for step in MACHINE.steps(state):
            first.setdefault(step.label, (state, step))
            if step.after not in came_from:
                came_from[step.after] = (state, step)
                states.append(step.after)
    ways = {}
    for label, last in sorted(first.items()):
        ways[label], came = [], last
        while came is not None:
            ways[label].insert(0, came[1])
            came = came_from[came[0]]
    return ways


def continued(way, seed):
    """Yield a way's steps, and then random ones."""
    yield from way
    dice, step = random.Random(seed), way[-1]
    for _ in range(MOST_MORE):
        if possible := list(MACHINE.steps(step.after)):
            step = dice.choice(possible)
            yield step


@pytest.mark.parametrize("seed", range(4))
async def test_real_code_does_what_the_model_says(database, seed):
    for label, way in ways_to_every_step().items():
        world, taken = World(database), []
        await world.begin()
        for step in continued(way, f"{seed} {label}"):
            taken.append(step.label)
            await world.take(step)
            assert await world.seen() == expected(step.after), taken
        assert await money_violations(database) == []
        await database.fetch("DELETE FROM public.image_enhancement_jobs")
        await database.fetch("DELETE FROM darkroom.workers")
