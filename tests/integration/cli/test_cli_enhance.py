"""`darkroom enhance`: what it refuses early, what it submits, what it waits for and what it writes."""

import asyncio
import hashlib
import itertools
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import asyncpg
import pytest

from models.connections import DatabaseLostError
from pipelines.storage.file import FileStorage
from tests.support.builders import balance_of, make_user, make_worker, money_violations
from tests.support.calling import Arrange, Darkroom
from workers.operations.users import LOCAL_EMAIL, LOCAL_TOKENS


def test_submitted_picture_has_row_object_job_and_charge(
    darkroom: Darkroom, arrange: Arrange, picture: Path, tmp_path: Path
) -> None:
    user_id = arrange(make_user)

    ran = darkroom("enhance", str(picture), "--user", f"{user_id}@example.test", "--tier", "2k", "--no-wait", "--json")

    (job,) = ran.json
    assert (ran.code, job["status"], job["tier"], job["tokensCost"]) == (0, "PENDING", "TIER_2K", 5)
    assert (job["input"], job["output"]) == (str(picture), None)
    (row,) = arrange(lambda db: db.fetch("SELECT * FROM public.enhanced_images"))
    assert row["originalR2Key"] == f"users/{user_id}/originals/{row['id']}.jpg"
    assert (row["name"], row["originalFormat"]) == ("holiday.jpg", "jpeg")
    assert (row["originalWidth"], row["originalHeight"]) == (320, 200)
    assert (tmp_path / "objects" / row["originalR2Key"]).read_bytes() == picture.read_bytes()
    assert arrange(lambda db: balance_of(db, user_id)) == 95


WRITTEN_DOWN = "SELECT count(*) FROM darkroom.objects"


def test_user_whose_id_is_too_long_is_refused_and_leaves_nothing(
    darkroom: Darkroom, arrange: Arrange, picture: Path, tmp_path: Path
) -> None:
    user_id = arrange(make_user)
    arrange(lambda db: db.fetch("UPDATE public.users SET id = repeat('ü', 101) WHERE id = $1", user_id))
    before = arrange(lambda db: db.fetchval(WRITTEN_DOWN))

    ran = darkroom("enhance", str(picture), "--user", f"{user_id}@example.test", "--no-wait", "--json")

    assert ran.code == 1
    assert "userId has 202 bytes; the limit is 200" in ran.out
    assert [path for path in (tmp_path / "objects").rglob("*") if path.is_file()] == []
    assert arrange(lambda db: db.fetchval(WRITTEN_DOWN)) == before
    assert arrange(lambda db: balance_of(db, "ü" * 101)) == 100


def test_blend_shares_one_second_picture(darkroom: Darkroom, arrange: Arrange, picture: Path) -> None:
    user_id = arrange(make_user)

    ran = darkroom(
        *("enhance", str(picture), str(picture), "--blend", str(picture)),
        *("--user", user_id, "--no-wait", "--json"),
    )

    assert [job["jobType"] for job in ran.json] == ["blend", "blend"]
    assert len({job["sourceImageId"] for job in ran.json}) == 1
    assert arrange(lambda db: db.fetchval("SELECT count(*) FROM public.enhanced_images")) == 3


def test_bad_paths_fail_with_their_reason_while_others_go_on(
    darkroom: Darkroom, arrange: Arrange, picture: Path, tmp_path: Path
) -> None:
    user_id = arrange(make_user)
    (tmp_path / "text.jpg").write_text("%!PS-Adobe-3.0")
    (tmp_path / "empty.png").touch()
    bad = [str(tmp_path / name) for name in ("text.jpg", "empty.png", "missing.jpg")]

    ran = darkroom("enhance", *bad, str(picture), "--user", user_id, "--no-wait", "--json")

    assert ran.code == 1
    assert [job.get("status") for job in ran.json] == [None, None, None, "PENDING"]
    assert [job["errorMessage"] for job in ran.json][:3] == [
        "picture is PostScript; accepted are JPEG, PNG, WebP and GIF",
        "picture is empty: 0 bytes",
        "it can't be read: No such file or directory",
    ]
    assert all(path in ran.err for path in bad)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["{folder}"], "{folder} is a directory"),
        (["{picture}", "--blend", "{folder}"], "{folder} is a directory"),
        (["{picture}", "--out", "{folder}", "--no-wait"], "--out needs the results"),
        (["{picture}", "--out", "{picture}"], "is not a directory"),
        (["{picture}", "--tier", "8k"], "8k"),
        ([], "PATH is missing"),
    ],
)
def test_wrong_usage_is_refused_before_anything_is_opened(
    command: Darkroom, picture: Path, tmp_path: Path, arguments: list[str], reason: str
) -> None:
    names = {"folder": str(tmp_path), "picture": str(picture)}

    ran = command("enhance", *(argument.format(**names) for argument in arguments))

    assert (ran.code, ran.out) == (2, "")
    assert reason.format(**names) in ran.err
    assert len(ran.err.splitlines()) == 1
    assert not (tmp_path / "home").exists()


def test_too_few_tokens_leave_no_picture_behind(
    darkroom: Darkroom, arrange: Arrange, picture: Path, tmp_path: Path
) -> None:
    user_id = arrange(lambda db: make_user(db, balance=3))

    ran = darkroom("enhance", str(picture), str(picture), "--user", user_id, "--no-wait", "--json")

    assert ran.code == 1
    assert "needed 2, available 1; see `darkroom tokens balance`" in ran.err
    assert [job.get("status") for job in ran.json] == ["PENDING", None]
    assert arrange(lambda db: db.fetchval("SELECT count(*) FROM public.enhanced_images")) == 1
    assert len([path for path in (tmp_path / "objects").rglob("*") if path.is_file()]) == 1
    assert arrange(money_violations) == []


def test_unknown_user_and_pipeline_fail(darkroom: Darkroom, arrange: Arrange, picture: Path) -> None:
    user_id = arrange(make_user)

    for options in (("--user", "nobody@example.test"), ("--user", user_id, "--pipeline", "nosuch"), ()):
        assert darkroom("enhance", str(picture), *options, "--no-wait").code == 1
    assert darkroom("jobs", "list", "--json").json == []


def test_results_are_written_under_free_names(
    darkroom: Darkroom, arrange: Arrange, picture: Path, tmp_path: Path, database_url: str
) -> None:
    user_id = arrange(make_user)
    arrange(make_worker)  # so that no worker of our own is started
    out = tmp_path / "results"

    with _worked_on(database_url, lambda _: "COMPLETED", tmp_path / "objects"):
        ran = darkroom("enhance", str(picture), str(picture), "--out", str(out), "--user", user_id, "--json")

    assert ran.code == 0
    assert [Path(job["output"]).name for job in ran.json] == ["holiday.jpg", "holiday-2.jpg"]
    assert (out / "holiday.jpg").read_bytes() == b"result"


def test_job_that_does_not_complete_makes_the_command_fail(
    darkroom: Darkroom, arrange: Arrange, picture: Path, tmp_path: Path, database_url: str
) -> None:
    user_id = arrange(make_user)
    arrange(make_worker)
    ends = iter(("FAILED", "COMPLETED"))

    with _worked_on(database_url, lambda _: next(ends), tmp_path / "objects"):
        ran = darkroom("enhance", str(picture), str(picture), "--user", user_id)

    assert ran.code == 1
    assert "said the worker" in ran.err
    assert "COMPLETED" in ran.out
    assert arrange(money_violations) == []


def test_embedded_data_is_migrated_and_its_user_made(at_home: Darkroom, picture: Path) -> None:
    ran = at_home("enhance", str(picture), "--tier", "4k", "--no-wait", "--json")

    assert (ran.code, ran.json[0]["status"], ran.json[0]["tokensCost"]) == (0, "PENDING", 10)
    assert at_home("tokens", "balance", LOCAL_EMAIL, "--json").json["balance"] == LOCAL_TOKENS - 10
    assert at_home("db", "check").code == 0


def test_named_user_is_made_once_on_embedded_data(at_home: Darkroom, picture: Path) -> None:
    for _ in range(2):
        at_home("enhance", str(picture), "--user", "ann@example.test", "--no-wait")

    rows = at_home("tokens", "history", "ann@example.test", "--json").json
    assert [row["amount"] for row in rows] == [-2, -2, LOCAL_TOKENS]


def test_many_pictures_end_in_a_summary_that_names_each_error_once(
    darkroom: Darkroom, arrange: Arrange, picture: Path, tmp_path: Path, database_url: str
) -> None:
    user_id = arrange(make_user)
    arrange(make_worker)
    ends = itertools.cycle(("COMPLETED", "COMPLETED", "FAILED"))
    for name in ("empty.png", "also.png"):
        (tmp_path / name).touch()
    bad = [str(tmp_path / name) for name in ("empty.png", "also.png")]
    out = tmp_path / "results"

    with _worked_on(database_url, lambda _: next(ends), tmp_path / "objects"):
        ran = darkroom("enhance", *bad, *[str(picture)] * 12, "--user", user_id, "--out", str(out))

    lines = ran.out.splitlines()
    assert ran.code == 1
    assert lines[-2].startswith("14 pictures: 8 done, 6 failed, in ")
    assert lines[-2].endswith("; 24 tokens charged, 8 refunded")
    assert lines[-1] == f"8 results in {out}"
    assert 1 <= len(lines) - 2 <= 11
    assert all(" of 12 jobs: " in line for line in lines[:-2])
    assert "2 others can't be used" in ran.err
    assert (
        "  4 x said the worker: holiday.jpg, holiday.jpg, holiday.jpg and 1 others\n    `darkroom jobs expl" in ran.err
    )
    assert "  2 x picture is empty: 0 bytes: empty.png, also.png\n" in ran.err
    (retry,) = (line for line in ran.err.splitlines() if line.startswith("try them again: "))
    assert darkroom(*retry.split("`")[1].split()[1:], "--dry-run").out.endswith(
        "4 of 4 would be tried again, for 8 tokens\n"
    )


def test_what_is_submitted_is_said_first_and_the_command_that_fetches_results(
    darkroom: Darkroom, arrange: Arrange, picture: Path, tmp_path: Path, database_url: str
) -> None:
    user_id = arrange(make_user)
    asked = ("enhance", "--user", user_id, "--no-wait", "--tier", "2k")
    few = darkroom(*asked, str(picture), str(picture))
    many = darkroom(*asked, *[str(picture)] * 11)
    assert few.err.startswith(f"2 pictures at tier 2k for {user_id}@example.test: 10 tokens of a balance of 100\n")

    with _worked_on(database_url, lambda _: "COMPLETED", tmp_path / "objects"):
        darkroom("jobs", "watch")
    for ran, folder, count in ((few, "few", 2), (many, "many", 11)):
        command = ran.err.splitlines()[-1].split("`")[1]
        saved = darkroom(*command.replace("--out DIR", f"--out {tmp_path / folder}").split()[1:])
        assert (saved.code, saved.err) == (0, "")
        assert len(list((tmp_path / folder).glob("holiday*.jpg"))) == count


def test_result_that_is_paid_and_cannot_be_had_is_to_be_fetched_and_not_paid_again(
    darkroom: Darkroom, arrange: Arrange, picture: Path, tmp_path: Path, database_url: str
) -> None:
    user_id = arrange(make_user)
    arrange(make_worker)
    out = tmp_path / "results"
    asked = ("--user", user_id, "--out", str(out))

    with _worked_on(database_url, lambda _: "COMPLETED", tmp_path / "objects", stores=False):
        few = darkroom("enhance", str(picture), *asked)
        many = darkroom("enhance", *[str(picture)] * 11, *asked)

    (job_id,) = (line.split()[1] for line in few.out.splitlines() if line.startswith("holiday.jpg  "))
    assert (few.code, few.err.splitlines()[-1]) == (1, f"fetch them: `darkroom jobs save {job_id} --out {out}`")
    assert many.err.splitlines()[-1].startswith(
        f"fetch them: `darkroom jobs save --user {user_id}@example.test --since"
    )
    assert "jobs retry" not in few.err + many.err


@pytest.mark.parametrize("out", ["{picture}/below", "/proc/nosuch"])
@pytest.mark.parametrize("words", [("enhance", "{picture}"), ("generate", "a cat"), ("modify", "{picture}", "more")])
def test_out_that_cannot_be_written_to_is_refused_before_anything_is_paid(
    darkroom: Darkroom, arrange: Arrange, picture: Path, words: tuple[str, ...], out: str
) -> None:
    user_id = arrange(make_user)
    given = [word.format(picture=picture) for word in (*words, "--out", out)]

    ran = darkroom(*given, "--user", user_id)

    assert (ran.code, ran.out, len(ran.err.splitlines())) == (2, "", 1)
    assert f"--out {out.format(picture=picture)} " in ran.err
    assert arrange(lambda db: balance_of(db, user_id)) == 100


@contextmanager
def _worked_on(database_url: str, end: Callable[[str], str], objects: Path, *, stores: bool = True) -> Iterator[None]:
    """End each job as `end` says, as soon as it is there, by SQL alone: the engine isn't what is tested here."""
    stopping = threading.Event()
    objects.mkdir(exist_ok=True)

    async def work() -> None:
        storage = FileStorage(objects)
        connection = await asyncpg.connect(database_url)
        while not stopping.is_set():
            for row in await connection.fetch(
                "SELECT id FROM public.image_enhancement_jobs WHERE status = 'PENDING' ORDER BY \"createdAt\""
            ):
                key = f"users/x/enhanced/{row['id']}.jpg"
                if stores:
                    await storage.put(key, b"result", "image/jpeg", hashlib.sha256(b"result").hexdigest())
                await connection.execute(
                    "UPDATE public.image_enhancement_jobs SET status = 'PROCESSING' WHERE id = $1", row["id"]
                )
                await connection.execute(
                    """UPDATE public.image_enhancement_jobs SET status = $2::text::public."JobStatus",
                           "enhancedR2Key" = $3, "errorMessage" = 'said the worker' WHERE id = $1""",
                    *(row["id"], end(row["id"]), key),
                )
            await asyncio.sleep(0.05)
        await connection.close()

    thread = threading.Thread(target=lambda: asyncio.run(work()))
    thread.start()
    try:
        yield
    finally:
        stopping.set()
        thread.join()


def test_tier_left_out_is_the_pipelines(darkroom: Darkroom, arrange: Arrange, picture: Path) -> None:
    user_id = arrange(make_user)
    pipeline = darkroom("pipelines", "create", "large", "--user", user_id, "--tier", "4k", "--json").json["id"]
    arguments = ("enhance", str(picture), "--user", user_id, "--no-wait", "--json")

    (of_pipeline,) = darkroom(*arguments, "--pipeline", pipeline).json
    (asked,) = darkroom(*arguments, "--pipeline", pipeline, "--tier", "2k").json
    (plain,) = darkroom(*arguments).json

    assert [job["tier"] for job in (of_pipeline, asked, plain)] == ["TIER_4K", "TIER_2K", "TIER_1K"]


def test_pipeline_shared_by_link_asks_for_its_token(darkroom: Darkroom, arrange: Arrange, picture: Path) -> None:
    owner, user_id = arrange(make_user), arrange(make_user)
    shared = darkroom("pipelines", "create", "mine", "--user", owner, "--visibility", "link", "--json").json
    arguments = ("enhance", str(picture), "--user", user_id, "--pipeline", shared["id"], "--no-wait", "--json")

    refused = darkroom(*arguments)
    taken = darkroom(*arguments, "--pipeline-token", shared["shareToken"])
    alone = darkroom("enhance", str(picture), "--pipeline-token", "x")

    assert (refused.code, taken.code, alone.code) == (1, 0, 2)
    assert "shared by link and not yours" in refused.err
    assert "db upgrade --grant" not in refused.err
    assert taken.json[0]["pipelineId"] == shared["id"]
    assert arrange(lambda db: balance_of(db, user_id)) == 98


@pytest.mark.parametrize("verb", ["enhance", "modify"])
def test_jobs_are_named_whatever_ends_the_command_that_has_paid_for_them(
    darkroom: Darkroom, arrange: Arrange, picture: Path, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    user_id = arrange(make_user)
    arrange(make_worker)

    async def fail(*_: object, **__: object) -> None:
        raise DatabaseLostError(ConnectionResetError("gone"))

    monkeypatch.setattr(f"workers.cli.{'enhancing' if verb == 'enhance' else 'generating'}.follow_jobs", fail)

    ran = darkroom(verb, str(picture), *(["make it evening"] if verb == "modify" else []), "--user", user_id)

    (job,) = arrange(lambda db: db.fetch("SELECT job_id FROM darkroom.job_queue"))
    assert ran.code == 1
    assert f"`darkroom jobs save {job['job_id']} --out DIR`" in ran.err
