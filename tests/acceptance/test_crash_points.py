"""A process that dies before or after any commit, call or object write leaves a job that another process finishes.

The failpoints are listed by a first, undisturbed run of each path. Then one process for each of them dies there, and
another process continues.
"""

import asyncio
import hashlib
import io
import json
import re
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from pathlib import Path
from zlib import crc32

import asyncpg
import pytest
from PIL import Image

from models.database import Database
from pipelines.keys import ANSWERS
from pipelines.storage.backends import open_storage
from tests.support import victim
from tests.support.builders import (
    balance_of,
    claim_jobs,
    make_image,
    make_job,
    make_pipeline,
    make_user,
    money_violations,
    new_id,
    set_stage_queues,
    set_status,
)
from tests.support.forked import FORKS
from tests.support.patience import HANGS_AFTER_S
from workers.services.instance import EmbeddedInstance

PERIODIC = {"claim", "wake", "arm_bells", "renew_lease", "adopt", "forget_workers"}
"""Passed as often as time allows: dying there once is enough."""

JOBS_AT_ONCE = 3

BALANCE = 100
PRICE = 2

UNDISTURBED: dict[str, list[str]] = {}
"""What each scenario's path passes, by its name."""


class House:
    """One test's database, storage and provider, and the processes that live and die on them."""

    def __init__(self, database: Database, database_url: str, services: EmbeddedInstance, folder: Path) -> None:
        self.database = database
        self.storage = open_storage((folder / "objects").as_uri())
        self.folder = folder
        self.picture = folder / "picture.jpg"
        data = io.BytesIO()
        Image.effect_noise((96, 64), 40).convert("RGB").save(data, "JPEG")
        self.picture.write_bytes(data.getvalue())
        self.calls = folder / "calls"
        self.calls.touch()
        self._environment = {
            "DATABASE_URL": database_url,
            "REDIS_URL": services.redis_url,
            "STORAGE_URL": (folder / "objects").as_uri(),
            "PROVIDER": "local",
            "LOG_LEVEL": "error",
            "DARKROOM_POLL_S": "0.1",
            "DARKROOM_QUEUES": "default,gpu",
            "SLOW_CALLS": str(self.calls),
            "CRASH_PICTURE": str(self.picture),
        }

    async def user(self) -> str:
        return await make_user(self.database, balance=BALANCE)

    async def job(self, **columns: object) -> str:
        """Submit a job whose picture is stored."""
        user = await self.user()
        image = await make_image(self.database, user)
        data = self.picture.read_bytes()
        key = f"users/{user}/originals/{image}.jpg"
        await self.storage.put(key, data, "image/jpeg", hashlib.sha256(data).hexdigest())
        return await make_job(self.database, user_id=user, image_id=image, **columns)

    async def jobs(self) -> str:
        """Submit several jobs at once; return their ids, separated by spaces."""
        return " ".join([await self.job() for _ in range(JOBS_AT_ONCE)])

    async def jobs_and_one_that_is_refused(self) -> str:
        """Submit as many, and one more whose result the application's rule refuses, at its only attempt."""
        await self.database.fetch(
            """CREATE OR REPLACE FUNCTION public.app_rule() RETURNS trigger LANGUAGE plpgsql AS $$
               BEGIN RAISE EXCEPTION 'not while the moon is full'; END $$"""
        )
        await self.database.fetch(
            """CREATE OR REPLACE TRIGGER app_rule BEFORE UPDATE ON public.image_enhancement_jobs FOR EACH ROW
               WHEN (NEW.status = 'COMPLETED' AND NEW."isAnonymous") EXECUTE FUNCTION public.app_rule()"""
        )
        return f"{await self.jobs()} {await self.job(isAnonymous=True, maxRetries=0)}"

    async def job_of_an_album(self) -> str:
        """Submit a job that takes its pipeline from the album of its picture."""
        job_id = await self.job()
        row = await self.database.fetchrow(
            'SELECT j."imageId", j."userId" FROM public.image_enhancement_jobs j WHERE j.id = $1', job_id
        )
        album_id, pipeline_id = new_id("a"), await make_pipeline(self.database, row["userId"])
        await self.database.fetch(
            """INSERT INTO public.albums (id, "userId", name, "pipelineId", "updatedAt")
               VALUES ($1, $2, 'album', $3, darkroom.utc_now())""",
            *(album_id, row["userId"], pipeline_id),
        )
        await self.database.fetch(
            'INSERT INTO public.album_images (id, "albumId", "imageId") VALUES ($1, $1, $2)', album_id, row["imageId"]
        )
        return job_id

    async def job_of_two_queues(self) -> str:
        """Submit a job whose picture is made by workers of another queue."""
        await set_stage_queues(self.database, GENERATING="gpu")
        return await self.job()

    async def job_whose_answer_is_kept(self) -> str:
        """Submit a job, and stop its worker when the picture is bought and no pixel child is free."""
        job_id = await self.job()
        await self._process("work_and_keep_an_answer", job_id, SCENARIOS["keep"], None)
        assert await self.storage.list_objects(ANSWERS)
        return job_id

    async def live(self, scenario: "Scenario", job_id: str, die_at: tuple[str, int] | None = None) -> list[str] | None:
        """Let a process take a scenario's path; return what it passed, or None if it died on the way as told."""
        return await self._process(scenario.path, job_id, scenario, die_at)

    async def undisturbed(self, name: str) -> list[str]:
        """Return what a process passes that takes a scenario's path and doesn't die; one does so for all tests."""
        if name not in UNDISTURBED:
            scenario = SCENARIOS[name]
            self.calls.write_text("")
            UNDISTURBED[name] = await self.live(scenario, await scenario.prepare(self)) or []
            await self.carry_on(scenario)
        return UNDISTURBED[name]

    async def carry_on(self, scenario: "Scenario") -> None:
        """Let another process finish what is there, once the dead one's supervisor has noticed."""
        await self.database.fetch("DELETE FROM darkroom.workers")
        await self._process("work", "", replace(scenario, slow_s=0), None)

    async def _process(self, path, job_id, scenario, die_at) -> list[str] | None:
        passed = self.folder / "passed"
        process = FORKS.Process(
            target=victim.live,
            args=(path, job_id, self._environment | {"SLOW_S": str(scenario.slow_s), "CRASH_SCRIPT": scenario.script}),
            kwargs={"die_at": die_at, "passed": str(passed)},
        )
        process.start()
        await asyncio.to_thread(process.join, HANGS_AFTER_S)
        code = process.exitcode
        if code is None:
            process.kill()
        assert code in ({victim.DIED, 0} if die_at else {0}), f"{path} dying at {die_at} ended with {code}"
        return json.loads(passed.read_text()) if code == 0 else None


@pytest.fixture
async def house(database, database_url, services, tmp_path):
    return House(database, database_url, services, tmp_path)


@dataclass(frozen=True)
class Scenario:
    """A path, what it finds, and how its job may end.

    `about` names the steps in which it differs from the others; None means all of its steps. `is_bought` says
    whether a picture is made of it, and `passes` at how many of a step's passes a process dies; None for all. At the
    places of `keeps` the picture that was bought is in the storage; None means at all.
    """

    path: str
    prepare: Callable[[House], Awaitable[str]]
    ends: frozenset[str]
    about: frozenset[str] | None = None
    script: str = "ok"
    slow_s: float = 0
    is_bought: bool = True
    keeps: frozenset[str] | None = frozenset()
    passes: int | None = None


def steps(names: str) -> frozenset[str]:
    """Return a set of names."""
    return frozenset(names.split())


def held_by_the_dead(kills: int = 0) -> Callable[[House], Awaitable[str]]:
    """Prepare a job whose worker is gone, after so many that died at the same stage before."""

    async def prepare(house: House) -> str:
        job_id = await house.job()
        await claim_jobs(house.database)
        await house.database.fetch("DELETE FROM darkroom.workers")
        for _ in range(kills):
            await house.database.fetch(
                """INSERT INTO darkroom.stage_runs (job_type, job_id, event, stage)
                   VALUES ('enhance', $1, 'rescued', 'ANALYZING')""",
                job_id,
            )
        if kills:  # it ran alone
            await house.database.fetch("UPDATE darkroom.job_queue SET suspect_of = gen_random_uuid()")
        return job_id

    return prepare


COMPLETED, REFUNDED = frozenset({"COMPLETED"}), frozenset({"REFUNDED"})
SCENARIOS = {
    "run": Scenario("work", House.job, COMPLETED),
    "album": Scenario("work", House.job_of_an_album, COMPLETED, steps("record_pipeline")),
    "group": Scenario(
        *("work_together", House.jobs, COMPLETED),
        steps("record_group record_checkpoint record_artifact record_completed"),
        passes=1,
    ),
    "half refused": Scenario(
        *("work_together", House.jobs_and_one_that_is_refused, COMPLETED),
        steps("record_group record_completed"),
        passes=1,
    ),
    "retry": Scenario("work", House.job, COMPLETED, steps("log_error record_retried"), "unavailable ok"),
    "snooze": Scenario("work", House.job, COMPLETED, steps("record_snoozed"), "throttled ok"),
    "refuse": Scenario(
        "work", House.job, REFUNDED, steps("close_calls log_error record_failed"), "refused", is_bought=False
    ),
    "shut down": Scenario(
        "work_and_be_told_to_stop", House.job, COMPLETED, steps("record_released sign_off"), slow_s=3
    ),
    "keep": Scenario(
        *("work_and_keep_an_answer", House.job, COMPLETED),
        steps("record_object put_object record_released sign_off"),
        keeps=frozenset({"after put_object"}),
    ),
    "take up": Scenario(
        *("work", House.job_whose_answer_is_kept, COMPLETED),
        steps("claim record_object put_object record_artifact delete_object forget_object record_completed"),
        keeps=None,
    ),
    "rescue": Scenario("work", held_by_the_dead(), COMPLETED, steps("rescue log_error")),
    "quarantine": Scenario(
        "work", held_by_the_dead(kills=1), REFUNDED, steps("rescue clear_suspects log_error"), is_bought=False
    ),
    "suspect": Scenario("work", held_by_the_dead(), COMPLETED | REFUNDED, steps("claim_one")),
    "overdue": Scenario("end_overdue", House.job, COMPLETED | REFUNDED),
    "cancel": Scenario("cancel", House.job, COMPLETED | {"CANCELLED"}),
    "submit": Scenario("submit", House.user, COMPLETED),
    "hand over": Scenario(
        "work", House.job_of_two_queues, COMPLETED, steps("record_checkpoint record_handedover claim")
    ),
}


def places(passed: list[str], scenario: Scenario, *, is_whole: bool = False) -> list[tuple[str, int]]:
    """Return each place that a path passes and that its scenario is about, and the how-many-th time it is passed.

    A place before a step is left out if the path passes the one after the step before directly ahead of it, nothing
    else is under way, and a process dies there: both times it has done the same, and what it had in memory is lost.
    `is_whole` leaves out none.
    """
    found: list[tuple[str, int]] = []
    counts: Counter[str] = Counter()
    under_way: Counter[str] = Counter()
    ahead: tuple[str, int] | None = None
    for place in passed:
        when, step = place.split()
        counts[place] += 1
        is_quiet = not +under_way
        under_way[step] += 1 if when == "before" else -1
        number = counts[place]
        is_wanted = (
            (scenario.about is None or step in scenario.about)
            and (step not in PERIODIC or number == 1)
            and (scenario.passes is None or number <= scenario.passes)
        )
        is_same = when == "before" and is_quiet and ahead is not None and ahead in found
        if is_wanted and (is_whole or not is_same):
            found.append((place, number))
        ahead = (place, number) if when == "after" and step not in PERIODIC else None  # those stand at other places
    return found


PARTS = {"run": 4}
"""Scenarios whose places are shared out over so many tests, because one of them alone would keep a process for long."""


@pytest.mark.parametrize(("name", "part"), [(name, part) for name in SCENARIOS for part in range(PARTS.get(name, 1))])
@pytest.mark.parametrize(
    "is_whole", [False, pytest.param(True, marks=pytest.mark.proof)], ids=["most places", "every place"]
)
async def test_what_dies_anywhere_is_taken_to_its_end(house, name, part, is_whole):
    scenario = SCENARIOS[name]
    passed = await house.undisturbed(name)
    assert passed
    deaths = []
    # the parts are shared out by the name, since another process passes other places
    every = places(passed, scenario, is_whole=is_whole)
    mine = [one for one in every if crc32(one[0].encode()) % PARTS.get(name, 1) == part]

    for place in mine:
        house.calls.write_text("")
        subject = await scenario.prepare(house)
        if await house.live(scenario, subject, place) is None:
            deaths.append(place[0])
        if scenario.path == "submit":  # whoever asked asks again, with the same key
            await house.live(scenario, subject)
        await house.carry_on(scenario)

        await check(house, scenario, subject, place)
    # chance decides how often a claim loop looks, and how jobs are grouped; every other step was died at
    assert {place for place, _ in mine if place.split()[1] not in PERIODIC} <= set(deaths)


@pytest.mark.parametrize("place", ["before finish_batches", "after finish_batches"])
async def test_batch_is_finished_and_notified_once_if_a_scheduler_dies_at_its_end(house, database_url, place):
    scenario = Scenario("finish_batches", House.job_of_an_album, frozenset())
    job_id = await scenario.prepare(house)
    await set_status(house.database, job_id, "CANCELLED")
    (album,) = await house.database.fetch('SELECT "albumId" AS id FROM public.album_images')
    user = await house.database.fetchval('SELECT "userId" FROM public.image_enhancement_jobs WHERE id = $1', job_id)
    batch = await house.database.fetchval("SELECT darkroom.submit_album($1, $2, 'TIER_1K')", user, album["id"])
    await house.database.fetch("UPDATE public.image_enhancement_jobs SET status = 'CANCELLED' WHERE status = 'PENDING'")
    heard: list[str] = []
    listener = await asyncpg.connect(database_url)
    await listener.add_listener("darkroom_jobs", lambda *notified: heard.append(json.loads(notified[-1])["id"]))

    assert await house.live(scenario, "", (place, 1)) is None
    is_finished = "SELECT finished_at IS NOT NULL FROM darkroom.batches WHERE id = $1 AND cancelled = 1"
    assert await house.database.fetchval(is_finished, batch) == (True if place.startswith("after") else None)
    assert await house.live(scenario, "") is not None

    assert await house.database.fetchval(is_finished, batch)
    await listener.fetchval("SELECT 1")
    await listener.close()
    assert heard == [str(batch)]


def test_place_before_a_step_is_left_out_where_the_step_before_has_just_ended():
    path = ["before a", "after a", "before b", "before c", "after b", "before d", "after c", "after d", "before a"]
    whole = Scenario("work", House.job, COMPLETED)
    some = Scenario("work", House.job, COMPLETED, steps("b d"), passes=1)

    assert places(path, whole) == [
        *(("before a", 1), ("after a", 1), ("before c", 1), ("after b", 1), ("before d", 1)),
        *(("after c", 1), ("after d", 1)),
    ]
    assert [place for place, _ in places(path, whole, is_whole=True)] == path
    assert places(path, some) == [("before b", 1), ("after b", 1), ("before d", 1), ("after d", 1)]


async def check(house, scenario, subject, place):
    """Look at the promises, at every row of this database and the objects behind them."""
    where = f"died at {place}"
    assert await money_violations(house.database) == [], where
    assert await house.database.fetchval("SELECT count(*) FROM darkroom.job_queue") == 0, where
    jobs = await house.database.fetch(
        "SELECT j.*, a.sha256 FROM public.image_enhancement_jobs j LEFT JOIN darkroom.artifacts a ON a.job_id = j.id "
        'WHERE j.id = ANY ($1) OR j."userId" = ANY ($1)',
        subject.split(),
    )
    assert len(jobs) == len(subject.split())
    for job in jobs:
        await check_job(house, scenario, job, where)
    bought = house.calls.read_text().split().count("generated")
    assert bought <= most_bought(scenario, place, len(jobs)), f"{where}: {bought} pictures"


async def check_job(house, scenario, job, where):
    """Look at the promises to one job."""
    ends = REFUNDED if job["isAnonymous"] else scenario.ends
    assert job["status"] in ends, f"{where}: {job['status']} {job['errorMessage']}"
    spent = PRICE if job["status"] == "COMPLETED" else 0
    assert await balance_of(house.database, job["userId"]) == BALANCE - spent, where
    if job["status"] == "COMPLETED":
        head = await house.storage.head(job["enhancedR2Key"])
        assert (head.size_bytes, head.sha256) == (job["enhancedSizeBytes"], job["sha256"]), where
    finished = await house.database.fetch(
        "SELECT stage FROM darkroom.stage_runs WHERE job_id = $1 AND event = 'finished'", job["id"]
    )
    assert max(Counter(row["stage"] for row in finished).values(), default=0) <= 1, where


BOUGHT_AND_UNRECORDED = (
    *("after call_generate", "before close_calls", "after close_calls", "before record_object", "after record_object"),
    *("before put_object", "after put_object", "before record_group", "before record_artifact"),
)
"""A crash between an answer and its record, which is committed by a group, loses that one picture."""


def most_bought(scenario, place, jobs):
    """Return how many pictures may have been made of so many jobs: one each, and one more for each that was lost."""
    if scenario.keeps is None or place[0] in scenario.keeps:
        return jobs
    may_be_lost = jobs > 1 or place[0] in BOUGHT_AND_UNRECORDED or place[0].split()[1] in PERIODIC
    return jobs * (scenario.is_bought + (scenario.is_bought and may_be_lost))


async def test_every_commit_of_these_paths_has_been_died_at(house):
    """A new commit in the paths of run, submit, rescue, cancel and refund must be found by the scenarios."""
    root = Path(victim.__file__).parents[2]
    folders = ("models", "workers/gate", "workers/process", "workers/running")
    sources = [path for folder in folders for path in (root / folder).rglob("*.py")]
    sources += [*(root / "workers").glob("*.py"), root / "workers/operations/jobs.py"]
    names = {
        found
        for path in sources
        for found in re.findall(r'(?:commit\(|commit_patiently\(|_write\()\s*(?:[\w.]+,\s*)?"(\w+)"', path.read_text())
    }
    passed: set[str] = set()
    for name in SCENARIOS:
        passed |= {one.split()[1] for one in await house.undisturbed(name)}

    assert names - passed - ELSEWHERE == set()


ELSEWHERE = {
    *("log_fenced", "count_use", "release_unknown", "delete_picture", "retry_job", "adopt"),
    *("set_aside", "end_refused", "end_refused_job", "settle_refused"),
    *("end_left_behind", "take_over", "record_take_over", "begin_at", "prolong", "forget_workers"),
    *("prolong_waiting", "open_call", "close_call", "empty_old_queues"),
    *("admit", "check_slots", "forget_turns", "finish_batches", "count_queues"),
}
"""Passed on no path of these jobs: a pipeline's count, claims that nobody knows, an upload taken back, adoption, what
the database refuses or another program holds, calls that go alone after their group, deadlines of jobs that wait for a
place, and what only schedulers do."""
