"""`darkroom jobs save`: results of jobs that ended while no command waited for them."""

import hashlib
from pathlib import Path

import pytest

from models.database import Database
from pipelines.storage.file import FileStorage
from tests.support.builders import make_generation, make_job, make_user
from tests.support.calling import Arrange, Darkroom

KEY = "users/x/enhanced/x.jpg"
GENERATED = """UPDATE public.mcp_generation_jobs SET "outputImageR2Key" = $2, status = $3::text::public."JobStatus"
WHERE id = $1"""


@pytest.fixture
def stored(tmp_path: Path, arrange: Arrange) -> bytes:
    """An object under KEY."""
    data = b"result"

    async def store(_database: Database) -> None:
        (tmp_path / "objects").mkdir(exist_ok=True)
        await FileStorage(tmp_path / "objects").put(KEY, data, "image/jpeg", hashlib.sha256(data).hexdigest())

    arrange(store)
    return data


def done(arrange: Arrange, name: str = "holiday.png", key: str = KEY) -> str:
    """Make a COMPLETED job of a picture with a name."""
    job_id: str = arrange(lambda db: make_job(db, status="COMPLETED", enhancedR2Key=key))
    arrange(
        lambda db: db.fetch(
            """UPDATE public.enhanced_images i SET name = $2 FROM public.image_enhancement_jobs j
               WHERE j."imageId" = i.id AND j.id = $1""",
            *(job_id, name),
        )
    )
    return job_id


def test_results_are_saved_by_beginnings_of_ids_under_free_names(
    darkroom: Darkroom, arrange: Arrange, stored: bytes, tmp_path: Path
) -> None:
    first, second = done(arrange), done(arrange)
    made = arrange(make_generation)
    for status in ("PROCESSING", "COMPLETED"):
        arrange(lambda db, status=status: db.fetch(GENERATED, made, KEY, status))
    out = tmp_path / "new" / "results"

    ran = darkroom("jobs", "save", first[:-1], second, first, made, "--out", str(out))

    assert (ran.code, ran.err) == (0, "")
    assert ran.out == f"{first}: {out}/holiday.jpg\n{second}: {out}/holiday-2.jpg\n{made}: {out}/{made}.jpg\n"
    assert [path.read_bytes() for path in out.iterdir()] == [stored] * 3


@pytest.mark.parametrize(
    ("name", "saved"),
    [
        ("../../escape.jpg", "escape.jpg"),
        ("C:\\\\pictures\\\\dog.png", "dog.jpg"),
        ("ä\nb.jpg", "äb.jpg"),
        ("..", None),
        ("", None),
        ("x" * 300, "x" * 60 + ".jpg"),
    ],
)
def test_name_of_a_picture_never_leaves_the_folder(
    darkroom: Darkroom, arrange: Arrange, stored: bytes, tmp_path: Path, name: str, saved: str | None
) -> None:
    job_id = done(arrange, name)

    assert darkroom("jobs", "save", job_id, "--out", str(tmp_path / "results")).code == 0

    assert stored
    assert [path.name for path in (tmp_path / "results").iterdir()] == [saved or f"{job_id}.jpg"]


def test_what_has_no_result_is_named_and_the_others_are_saved(
    darkroom: Darkroom, arrange: Arrange, stored: bytes, tmp_path: Path
) -> None:
    good, waiting = done(arrange), arrange(make_job)
    failed = arrange(lambda db: make_job(db, status="REFUNDED", errorMessage="too dark"))
    lost = done(arrange, key="users/x/enhanced/nosuch.jpg")

    ran = darkroom("jobs", "save", waiting, failed, lost, "nosuch", good, "--out", str(tmp_path / "out"), "--json")

    assert ran.code == 1
    assert [(row["id"], row["output"]) for row in ran.json] == [
        (good, str(tmp_path / "out" / "holiday.jpg")),
        *((job_id, None) for job_id in (waiting, failed, lost)),
    ]
    lines = ran.err.splitlines()
    assert lines[0] == f"darkroom: job {waiting}: it isn't finished: it is PENDING; `darkroom jobs watch` follows it"
    assert lines[1] == f"darkroom: job {failed}: there is no result, it ended REFUNDED: too dark"
    assert lines[2].startswith(f"darkroom: job {lost}: ")
    assert lines[3].startswith("darkroom: job nosuch: there is no such job")
    assert stored


def test_many_are_counted_and_none_that_a_filter_means_is_left_out(
    darkroom: Darkroom, arrange: Arrange, stored: bytes, tmp_path: Path
) -> None:
    user_id = arrange(make_user)

    async def make(database: Database) -> None:
        for number in range(60):  # more than `jobs list` shows
            key = KEY if number < 2 else "lost"
            await make_job(database, user_id=user_id, status="COMPLETED", enhancedR2Key=key)

    arrange(make)
    ran = darkroom("jobs", "save", "--user", user_id, "--out", str(tmp_path / "out"))

    assert (ran.code, ran.out) == (1, f"2 results saved in {tmp_path / 'out'}, 58 can't be saved\n")
    assert [path.read_bytes() for path in (tmp_path / "out").iterdir()] == [stored] * 2


def test_neither_or_both_ways_to_name_jobs_is_a_usage_error(darkroom: Darkroom, tmp_path: Path) -> None:
    for arguments in ((), ("x", "--since", "2h")):
        ran = darkroom("jobs", "save", *arguments, "--out", str(tmp_path / "out"))
        assert (ran.code, len(ran.err.splitlines())) == (2, 1)
    assert not (tmp_path / "out").exists()
