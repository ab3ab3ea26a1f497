"""The application `studio`, alone in its database: generations from their producer's INSERT to their ends."""

import asyncio
import itertools
import json
from io import BytesIO

import asyncpg
import pytest
from PIL import Image

from pipelines.keys import result_key
from tests.support.fleet import eventually
from tests.support.studio_fleet import producer, studio

__all__ = ["producer", "studio"]

ALLOWED = ["uploading", "pending", "processing", "completed"]


@pytest.fixture(scope="module", autouse=True)
def workers(studio):
    """One worker process for all tests of this module."""
    return studio.start(1)


class Poller:
    """Another connection that reads a generation and its files over and over, and hears of its changes."""

    def __init__(self, url, job):
        self._url, self._job = url, job
        self.seen, self.heard = [], []

    async def __aenter__(self):
        self._connection = await asyncpg.connect(self._url)
        await self._connection.add_listener("darkroom_jobs", self._hear)
        self._task = asyncio.create_task(self._poll())
        return self

    async def __aexit__(self, *_):
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        self._connection.terminate()

    @property
    def labels(self):
        """The labels that were seen, in order, each stretch of the same label once."""
        return [label for label, _ in itertools.groupby(seen[0] for seen in self.seen)]

    def _hear(self, _connection, _pid, _channel, payload):
        said = json.loads(payload)
        if said["id"] == self._job:
            self.heard.append(said)

    async def _poll(self):
        while True:
            row = await self._connection.fetchrow(
                """SELECT status, cardinality("resultImageFiles") AS named, "completedAt" IS NULL AS is_open,
                          (SELECT count(*) FROM files f WHERE f."storageId" LIKE 'studio/%/' || $1 || '-%') AS files,
                          (SELECT count(*) FROM usage u WHERE u.metadata ->> 'generationId' = $1) AS lines
                   FROM generations WHERE _id = $1""",
                self._job,
            )
            if row is not None and tuple(row) not in self.seen[-1:]:
                self.seen.append(tuple(row))
            await asyncio.sleep(0.002)


async def test_studios_own_producer_gets_two_results_of_two_pictures(producer):
    await producer.execute(
        """UPDATE files SET "storageId" = 'uploads/u1/model.jpg' WHERE _id = 'f2'"""  # a JPEG beside the PNG
    )
    async with Poller(producer.studio.url, "g1") as poller:
        await producer.execute(
            """INSERT INTO generations (_id, "userId", prompt, parameters, "productImageFiles", "modelImageFiles",
                   "tokensUsed")
               VALUES ('g1', 'u1', '<g1> The shirt on the model, at a market [1:slow]', '{"size": "1K", "count": 2}',
                   '{f1}', '{f2}', 4)"""
        )
        row = await producer.ended("g1")

        async def has_seen_the_end():
            return poller.seen[-1][0] == "completed" and poller.heard and poller.heard[-1]["status"] == "COMPLETED"

        await eventually(has_seen_the_end)

    assert (row["status"], row["error"]) == ("completed", None)
    assert row["createdAt"] <= row["startedAt"] < row["completedAt"]
    files = await producer.results("g1")
    assert row["resultImageFiles"] == [one["_id"] for one in files]
    for number, one in enumerate(files, 1):
        data = await producer.studio.storage.get(one["storageId"])
        head = await producer.studio.storage.head(one["storageId"])
        with Image.open(BytesIO(data)) as picture:
            assert (picture.format, picture.size) == ("JPEG", (one["width"], one["height"]))
        assert one["storageId"] == result_key("studio", "u1", "g1", number, head.sha256)
        assert one["storageId"].startswith(f"studio/u1/g1-{number}-{head.sha256[:16]}")
        assert (one["sizeBytes"], one["width"], one["height"]) == (len(data), 1024, 683)
        assert (one["userId"], one["url"]) == ("u1", producer.studio.storage.url(one["storageId"]))
    # the result and all that goes with it are there with the label, and not before
    assert poller.labels == [label for label in ALLOWED if label in poller.labels]
    assert set(poller.seen[:-1]) <= {("pending", 0, True, 0, 1), ("processing", 0, True, 0, 1)}
    assert poller.seen[-1] == ("completed", 2, False, 2, 2)
    assert [said["status"] for said in poller.heard] == ["PROCESSING", "COMPLETED"]
    assert {(said["type"], said["id"]) for said in poller.heard} == {("studio.modify", "g1")}
    assert await producer.usage("g1") == [
        ("generation_started", {"tokens": 4}),
        ("generation_completed", {"tokens": 4, "fileIds": row["resultImageFiles"]}),
    ]
    assert (await producer.balance("u1"), await producer.entries("u1")) == (16, [("charge", -4)])
    assert await producer.outcomes("g1") == ["answered", "answered"]
    assert producer.studio.count("call", "g1") == [1, 1]


async def test_picture_is_made_of_words_in_its_aspect_and_size(producer):
    user = await producer.user()

    row = await producer.ended(await producer.order(user, size="2K", parameters={"aspect": "16:9"}))

    assert (row["status"], row["error"]) == ("completed", None)
    (one,) = await producer.results(row["_id"])
    assert (one["width"], one["height"]) == (2048, 1152)
    assert await producer.entries(user) == [("charge", -5)]


async def test_what_cannot_be_made_ends_failed_with_its_place_and_is_refunded_once(producer):
    user = await producer.user()
    gone = await producer.file(user, f"uploads/{user}/gone.png")
    await producer.studio.storage.delete(f"uploads/{user}/gone.png")
    words = await producer.file(user, f"uploads/{user}/words.txt")
    await producer.studio.put(f"uploads/{user}/words.txt", b"no picture", "text/plain")
    second = await producer.file(user, f"uploads/{user}/second.png")
    jobs = {
        await producer.order(user, parameters={"sise": "1K"}): "parameters.sise: unknown key",
        await producer.order(user, parameters={"aspect": "wide"}): "parameters.aspect: ",
        await producer.order(user, parameters={"temperature": 9}): "parameters.temperature: ",
        await producer.order(user, productImageFiles=[gone]): f"uploads/{user}/gone.png",
        await producer.order(user, productImageFiles=[words]): f"uploads/{user}/words.txt",
        await producer.order(user, count=2, productImageFiles=[second, words]): f"uploads/{user}/words.txt",
        await producer.order(user, says="[1:refused]"): "refused",
        await producer.order(user, says="[2:refused]", count=3): "refused",
    }

    for job, expected in jobs.items():
        row = await producer.ended(job)
        assert (row["status"], row["resultImageFiles"], row["completedAt"] is None) == ("failed", [], False)
        assert row["error"].startswith(expected) if expected.startswith("parameters") else expected in row["error"]
        assert await producer.usage(job) == [
            ("generation_started", {"tokens": row["tokensUsed"]}),
            ("generation_failed", {"tokens": row["tokensUsed"], "reason": row["error"]}),
        ]
        assert await producer.results(job) == []
    assert await producer.balance(user) == 100
    assert sorted(amount for _, amount in await producer.entries(user)) == sorted(
        [-2] * 6 + [2] * 6 + [-4, 4] + [-6, 6]
    )


async def test_pictures_that_are_bought_are_not_bought_again_by_a_later_attempt(producer):
    user = await producer.user()

    row = await producer.ended(await producer.order(user, says="[3:down]", count=3))

    assert (row["status"], row["error"]) == ("completed", None)
    assert producer.studio.count("call", row["_id"]) == [1, 1, 2]
    assert await producer.outcomes(row["_id"]) == ["answered", "answered", "ProviderUnavailableError", "answered"]
    assert [one["_id"] for one in await producer.results(row["_id"])] == row["resultImageFiles"]
    assert await producer.entries(user) == [("charge", -6)]


@pytest.mark.parametrize("label", ["cancelled", "failed"])
async def test_end_by_sql_during_a_hanging_call_stops_the_worker_within_two_seconds(producer, label):
    user = await producer.user()
    job = await producer.order(user, says="[2:hang]", count=2)
    await producer.is_asked(job, 2)

    await producer.set(job, status=label)

    async def is_cut_off():
        return await producer.outcomes(job) == ["answered", "cut_off"]

    await eventually(is_cut_off, "the end of the call", within_s=2)
    await producer.set(job, status="completed")  # blindly, by another program
    await producer.set(job, status=label)
    row = await producer.row(job)
    assert (row["status"], row["resultImageFiles"]) == (label, [])
    assert await producer.results(job) == []
    assert await producer.entries(user) == [("charge", -4), ("refund", 4)]
    assert [action for action, _ in await producer.usage(job)] == ["generation_started", f"generation_{label}"]


async def test_generation_whose_row_is_deleted_during_a_call_is_cut_off_and_refunded(producer):
    user = await producer.user()
    job = await producer.order(user, says="[1:hang]")
    await producer.is_asked(job)

    await producer.execute("DELETE FROM generations WHERE _id = $1", job)

    async def is_cut_off():
        return await producer.outcomes(job) == ["cut_off"]

    await eventually(is_cut_off, "the end of the call", within_s=2)
    assert await producer.entries(user) == [("charge", -2), ("refund", 2)]
    assert (await producer.usage(job))[1:] == [("generation_cancelled", {"tokens": 2, "reason": "deleted"})]


async def test_user_who_is_deleted_during_a_call_leaves_nothing_but_the_records_of_money(producer):
    user = await producer.user()
    job = await producer.order(user, says="[1:hang]")
    await producer.is_asked(job)

    await producer.execute("DELETE FROM users WHERE _id = $1", user)

    async def is_cut_off():
        return await producer.outcomes(job) == ["cut_off"]

    await eventually(is_cut_off, "the end of the call", within_s=2)
    assert await producer.usage(job) == []
    assert ("refund", 2) not in await producer.entries(user)


async def test_generation_that_was_held_runs_with_what_its_lists_became(producer):
    user = await producer.user()
    job = await producer.order(user, status="uploading", prompt="later")
    async with Poller(producer.studio.url, job) as poller:
        shirt = await producer.file(user, f"uploads/{user}/shirt.png")
        face = await producer.file(user, f"uploads/{user}/model.jpg", category="model_image", kind="JPEG")
        await producer.set(job, productImageFiles=[shirt], prompt=f"<{job}> now [1:slow]")
        await producer.set(job, modelImageFiles=[face], status="pending")
        row = await producer.ended(job)
        await asyncio.sleep(0.05)

    assert (row["status"], len(row["resultImageFiles"])) == ("completed", 1)
    assert poller.labels == [label for label in ALLOWED if label in poller.labels]
    assert poller.labels[-1] == "completed"
    assert await producer.entries(user) == [("charge", -2)]
    assert {said["type"] for said in poller.heard} >= {"studio.modify"}
