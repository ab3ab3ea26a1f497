"""Jobs of the table from submission to their end; run by test_several_pictures.py with its plugin."""

import hashlib
import io

import pytest
from PIL import Image

from models.queue.checkpoints import completed
from models.queue.claims import FencedError
from models.queue.groups import GroupWriter
from pipelines.errors import PolicyRefusedError, ProviderUnavailableError, WrongShapeError
from pipelines.imaging.header import DecodeLimits, read_header
from pipelines.job import Generated
from pipelines.keys import result_key
from tests.integration.queue.test_kept_answers import ANSWERED, House
from tests.support.builders import claim_jobs, load_rows
from tests.support.grouping import Write, write_all
from tests.support.kept_pixels import kept_children
from tests.support.scripted_provider import asking_again

__all__ = ["kept_children"]

LIMITS = DecodeLimits()


def drawn(colour, size=(96, 64)):
    file = io.BytesIO()
    Image.new("RGB", size, colour).save(file, "PNG")
    return file.getvalue()


class Atelier(House):
    """A database, a storage and a provider, and the workers that live on them one after the other."""

    async def put(self, *pictures):
        """Store pictures of these colours as a user's uploads, and return their keys."""
        keys = [f"uploads/u/{colour}.png" for colour in pictures]
        for colour, key in zip(pictures, keys, strict=True):
            data = drawn(colour)
            await self.storage.put(key, data, "image/png", hashlib.sha256(data).hexdigest())
        return keys

    async def study(self, wanted=1, pictures=(), words="at a market", kind="modify", **choices):
        return await self.database.fetchval(
            """INSERT INTO public.studies (who, words, kind, pictures, wanted, choices)
               VALUES ('u/1', $1, $2, $3, $4, $5) RETURNING id""",
            *(words, kind, list(pictures), wanted, choices),
        )

    async def settled(self, eventually, *studies):
        """Let a worker take jobs to their ends, at once also after a failed attempt; return their rows."""

        async def are_over():
            await self.database.fetch("UPDATE darkroom.job_queue SET scheduled_at = now() WHERE status = 'retrying'")
            return not await self.database.fetchval("SELECT count(*) FROM darkroom.job_queue")

        async with self.worker():
            await eventually(are_over)
        rows = await self.database.fetch("SELECT * FROM public.studies WHERE id = ANY ($1) ORDER BY id", list(studies))
        return [dict(row) for row in rows]

    async def files(self):
        return [dict(row) for row in await self.database.fetch("SELECT * FROM public.study_files ORDER BY study, n")]

    async def hashes(self):
        rows = await self.database.fetch(
            "SELECT input_hash, outcome FROM darkroom.provider_calls WHERE purpose = 'generate' ORDER BY id"
        )
        return [tuple(row) for row in rows]


@pytest.fixture
async def atelier(database, tmp_path, kept_children):
    return Atelier(database, tmp_path)


async def test_pictures_are_named_in_order_in_the_commit_that_completes_the_job(atelier, eventually):
    keys = await atelier.put("red", "blue", "green")
    study = await atelier.study(3, keys, aspect="2:1", model="m", temperature=0.5)
    await atelier.database.fetch("CREATE TABLE public.seen (state text, files integer)")
    await atelier.database.fetch(
        """CREATE FUNCTION public.look() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
               INSERT INTO public.seen SELECT NEW.state, count(*) FROM public.study_files; RETURN NULL; END $$"""
    )
    await atelier.database.fetch(
        """CREATE CONSTRAINT TRIGGER look AFTER UPDATE ON public.studies DEFERRABLE INITIALLY DEFERRED
           FOR EACH ROW EXECUTE FUNCTION public.look()"""
    )

    (row,) = await atelier.settled(eventually, study)

    files = await atelier.files()
    assert (row["state"], row["why"]) == ("completed", None)
    assert [one["n"] for one in files] == [1, 2, 3]
    assert row["result_ids"] == [one["id"] for one in files]
    assert len(set(row["result_ids"])) == 3
    assert (row["first_key"], row["print_size"]) == (files[0]["key"], "3: 1024x512")
    assert row["bytesOfFirst"] == files[0]["bytes"]
    for number, one in enumerate(files, 1):
        data = await atelier.storage.get(one["key"])
        assert one["key"] == result_key("atelier", "u/1", str(study), number, hashlib.sha256(data).hexdigest())
        assert one["key"].startswith(f"atelier/u=2F1/{study}-{number}-")
        header = read_header(data, LIMITS)
        assert (header.width_px, header.height_px) == (one["width"], one["height"]) == (1024, 512)
        assert (one["bytes"], one["url"]) == (len(data), atelier.storage.url(one["key"]))
        assert (one["study"], one["who"], one["model"], one["temperature"]) == (study, "u/1", "m", 0.4)
    calls = atelier.provider.calls
    assert [[image.data for image in call.images] for call in calls] == [
        [drawn("red"), drawn("blue"), drawn("green")]
    ] * 3
    assert {(call.prompt.model, call.prompt.temperature, call.aspect) for call in calls} == {("m", 0.5, 2.0)}
    assert await atelier.calls() == [ANSWERED] * 3
    assert len({found for found, _ in await atelier.hashes()}) == 3
    seen = {tuple(one) for one in await atelier.database.fetch("SELECT * FROM public.seen")}
    assert seen == {("processing", 0), ("completed", 3)}
    assert await atelier.database.fetchval("SELECT count(*) FROM darkroom.stage_runs WHERE event = 'finished'") == 1


async def test_group_of_jobs_gets_the_pictures_of_each(atelier, eventually):
    studies = [await atelier.study(wanted) for wanted in (1, 2, 1, 4)]

    rows = await atelier.settled(eventually, *studies)

    files = await atelier.files()
    for row, wanted in zip(rows, (1, 2, 1, 4), strict=True):
        own = [one for one in files if one["study"] == row["id"]]
        assert [one["n"] for one in own] == list(range(1, wanted + 1))
        assert (row["state"], row["result_ids"]) == ("completed", [one["id"] for one in own])
    assert atelier.provider.sent == 8
    assert {call.prompt.purpose for call in atelier.provider.calls} == {"generate"}


async def test_job_that_enhances_takes_the_first_picture_through_every_stage(atelier, eventually):
    study = await atelier.study(2, await atelier.put("red", "blue"), words=None, kind="enhance")

    (row,) = await atelier.settled(eventually, study)

    assert (row["state"], row["why"], len(await atelier.files())) == ("completed", None, 2)
    assert [len(call.images) for call in atelier.provider.calls] == [1, 2, 2]  # the analysis, and two pictures
    assert {call.images[0].data for call in atelier.provider.calls} == {drawn("red")}


async def test_failed_second_picture_ends_the_job_without_a_row_and_without_a_second_first(atelier, eventually):
    refused = PolicyRefusedError("refused", category="SAFETY")
    atelier.provider._scripts["generate"] = [None, refused]
    study = await atelier.study(3)

    (row,) = await atelier.settled(eventually, study)

    assert (row["state"], row["why"], row["result_ids"], row["first_key"]) == ("failed", "refused", [], None)
    assert await atelier.files() == []
    assert [outcome for _, outcome in await atelier.hashes()] == ["answered", "PolicyRefusedError"]


async def test_retry_after_a_failed_second_picture_buys_only_what_lacks(atelier, eventually):
    atelier.provider._scripts["generate"] = [None, ProviderUnavailableError("down"), None]
    study = await atelier.study(3)

    (row,) = await atelier.settled(eventually, study)

    assert row["state"] == "completed"
    outcomes = await atelier.hashes()
    assert [outcome for _, outcome in outcomes] == ["answered", "ProviderUnavailableError", "answered", "answered"]
    assert len({found for found, _ in outcomes}) == 3


async def test_picture_whose_object_is_gone_is_made_again_and_the_others_are_not(atelier, eventually):
    study = await atelier.study(3)

    async def lose_the_first(_call):
        (one,) = [one.key for one in await atelier.storage.list_objects("atelier/") if "-1-" in one.key]
        await atelier.storage.delete(one)
        return ProviderUnavailableError("down")

    atelier.provider._scripts["generate"] = [None, None, lose_the_first, None]

    (row,) = await atelier.settled(eventually, study)

    assert row["state"] == "completed"
    numbers = [call.prompt.number for call in atelier.provider.calls]
    assert numbers == [1, 2, 3, 1, 3]
    for one in await atelier.files():
        await atelier.storage.head(one["key"])


async def test_id_that_comes_back_gets_none_of_the_earlier_jobs_pictures(atelier, eventually):
    (first,) = await atelier.settled(eventually, await atelier.study(2))
    await atelier.database.fetch("TRUNCATE public.studies, public.study_files RESTART IDENTITY")
    other = await atelier.study(2)
    (second,) = await atelier.settled(eventually, other)

    assert (second["id"], second["state"], atelier.provider.sent) == (first["id"], "completed", 4)

    await atelier.database.fetch("TRUNCATE public.studies, public.study_files RESTART IDENTITY")
    await atelier.study(2)
    (claim,) = await claim_jobs(atelier.database)
    await atelier.database.fetch("UPDATE darkroom.artifacts SET created_at = now(), user_id = 'u/2'")
    assert (await load_rows(atelier.database, claim)).artifact is None


async def test_misses_and_paid_calls_count_for_each_picture(atelier, eventually):
    missed = WrongShapeError("wrong shape")
    again = asking_again(WrongShapeError, "wrong shape")
    atelier.provider._scripts["generate"] = [again, None, again, None, again, None, missed]
    study = await atelier.study(3)

    (row,) = await atelier.settled(eventually, study)

    assert (row["state"], row["why"]) == ("completed", None)
    assert [call.prompt.number for call in atelier.provider.calls] == [1, 1, 2, 2, 3, 3]


async def test_model_that_misses_one_picture_twice_is_not_asked_a_third_time_for_it(atelier, eventually):
    again = asking_again(WrongShapeError, "wrong shape")
    atelier.provider._scripts["generate"] = [None, again, again]
    study = await atelier.study(2)

    (row,) = await atelier.settled(eventually, study)

    assert row["state"] == "failed"
    assert "came twice" in row["why"]
    assert [call.prompt.number for call in atelier.provider.calls] == [1, 2, 2]
    assert await atelier.files() == []


async def test_each_picture_has_all_of_the_stages_time(atelier, eventually):
    ends = []

    async def look(_call):
        ends.append(await atelier.database.fetchval("SELECT deadline_at FROM darkroom.job_queue"))

    atelier.provider._scripts["generate"] = [look]

    await atelier.settled(eventually, await atelier.study(3))

    assert len(set(ends)) == 3
    assert ends == sorted(ends)


async def test_worker_that_lost_its_claim_records_no_picture(atelier, eventually):
    study = await atelier.study(3)

    async def lose_the_claim(_call):
        await atelier.database.fetch("UPDATE darkroom.job_queue SET lease_token = gen_random_uuid()")

    atelier.provider._scripts["generate"] = [None, lose_the_claim, None]

    async def is_lost():
        return await atelier.database.fetchval("SELECT count(*) FROM darkroom.stage_runs WHERE event = 'fenced'")

    async with atelier.worker():
        await eventually(is_lost)

    recorded = await atelier.database.fetch("SELECT stage FROM darkroom.checkpoints")
    assert [tuple(one) for one in recorded] == [("GENERATING/1",)]
    assert await atelier.database.fetchval("SELECT count(*) FROM darkroom.artifacts") == 0
    assert await atelier.database.fetchval("SELECT state FROM public.studies WHERE id = $1", study) == "processing"
    assert atelier.provider.sent == 2


async def test_worker_that_stops_leaves_the_next_picture_to_another(atelier, eventually):
    study = await atelier.study(2)

    def stop(_call):
        for job in atelier.loop._running.values():
            job.shut_down(has_grace=True)

    atelier.provider._scripts["generate"] = [stop, None]

    (row,) = await atelier.settled(eventually, study)

    events = await atelier.database.fetch("SELECT event, attempt FROM darkroom.stage_runs ORDER BY id")
    assert [one["event"] for one in events if one["event"] != "claimed"] == ["released", "finished"]
    assert (row["state"], [call.prompt.number for call in atelier.provider.calls]) == ("completed", [1, 2])


async def test_reuse_takes_no_picture_for_another(atelier, eventually):
    async with atelier.worker():
        atelier.stages._reuses_results = True
        for number in range(1, 3):
            await atelier.study(2)

            async def are_completed(number=number):
                return len(await atelier.files()) == 2 * number

            await eventually(are_completed)

    assert [call.prompt.number for call in atelier.provider.calls] == [1, 2, 1]


async def test_job_whose_rows_the_application_refuses_ends_alone_and_buys_nothing_twice(atelier, eventually):
    await atelier.database.fetch(
        """CREATE FUNCTION public.refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
               RAISE EXCEPTION 'not at a full moon'; END $$"""
    )
    studies = [await atelier.study(2) for _ in range(3)]
    await atelier.database.fetch(
        f"""CREATE TRIGGER refuse BEFORE INSERT ON public.study_files FOR EACH ROW
            WHEN (NEW.study = {studies[1]} AND NEW.n = 2) EXECUTE FUNCTION public.refuse()"""
    )

    rows = await atelier.settled(eventually, *studies)

    assert [row["state"] for row in rows] == ["completed", "failed", "completed"]
    assert "not at a full moon" in rows[1]["why"]
    assert (rows[1]["result_ids"], rows[1]["first_key"]) == ([], None)
    assert [one["study"] for one in await atelier.files()] == [studies[0]] * 2 + [studies[2]] * 2
    assert atelier.provider.sent == 6


async def test_completion_that_is_repeated_after_a_lost_answer_writes_no_row_twice(atelier):
    await atelier.study(2)
    (claim,) = await claim_jobs(atelier.database)
    first, second = (Generated(f"k{n}", f"u{n}", 4, 3, n, "0" * 64, "m").to_json() for n in (1, 2))
    end = completed(claim.job_type, "GENERATING", second, second, before=[first], duration_ms=1, pipeline_id=None)

    assert await write_all(GroupWriter(atelier.database), [Write(claim, end)]) == [None]
    (again,) = await write_all(GroupWriter(atelier.database), [Write(claim, end)])

    assert type(again) is FencedError
    assert [(one["n"], one["key"], one["bytes"]) for one in await atelier.files()] == [(1, "k1", 1), (2, "k2", 2)]


@pytest.mark.parametrize(
    ("choices", "words"),
    [
        ({"aspect": "wide"}, "parameters.aspect: "),
        ({"aspect": 2}, "parameters.aspect: "),
        ({"model": ""}, "parameters.model: "),
        ({"temperature": 3}, "parameters.temperature: between 0 and 2, found 3"),
        ({"sise": "1K"}, "parameters.sise: unknown key; known are size, count, aspect, model, temperature"),
    ],
)
async def test_bad_choice_ends_the_job_with_its_path_and_nothing_is_bought(atelier, eventually, choices, words):
    (row,) = await atelier.settled(eventually, await atelier.study(**choices))

    assert row["state"] == "failed"
    assert row["why"].startswith(words)
    assert atelier.provider.sent == 0


@pytest.mark.parametrize("position", [0, 1])
async def test_input_that_is_missing_or_no_picture_is_named_by_its_key(atelier, eventually, position):
    (good,) = await atelier.put("red")
    sha256 = hashlib.sha256(b"no picture").hexdigest()
    await atelier.storage.put("uploads/u/words.txt", b"no picture", "text/plain", sha256)
    bad = ["uploads/u/gone.png", "uploads/u/words.txt", "uploads/../x"]
    studies = [await atelier.study(2, [good, one] if position else [one, good]) for one in bad]
    atelier.provider._preparing = decoded

    rows = await atelier.settled(eventually, *studies)

    assert [row["state"] for row in rows] == ["failed"] * 3
    assert "uploads/u/gone.png" in rows[0]["why"]
    assert "uploads/u/words.txt" in rows[1]["why"]
    assert "is no key" in rows[2]["why"]
    assert atelier.provider.sent == 0


async def decoded(call):
    """Refuse what isn't a picture, as providers do."""
    for image in call.images:
        read_header(image.data, LIMITS)
