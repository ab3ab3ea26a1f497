"""Rows for tests, inserted as a program of the application inserts them."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any
from uuid import UUID, uuid4

from models.database import Database
from models.history.artifacts import Artifact
from models.queue.claims import Claim, claim
from models.queue.inputs import JobInputs
from models.queue.leases import renew_lease
from models.queue.reading import JobReader, JobRows
from models.queue.suspects import claim_suspect, due_suspects

PRICE = {"FREE": 0, "TIER_1K": 2, "TIER_2K": 5, "TIER_4K": 10}


def new_id(prefix: str) -> str:
    """Return an id that no other row has."""
    return f"{prefix}{uuid4().hex[:20]}"


async def make_user(database: Database, *, balance: int | None = 100, tier: str = "FREE") -> str:
    """Insert a user and, unless None, a balance; return the user's id."""
    user_id = new_id("u")
    await database.fetch(
        'INSERT INTO public.users (id, email, "updatedAt") VALUES ($1, $2, darkroom.utc_now())',
        user_id,
        f"{user_id}@example.test",
    )
    if balance is not None:
        await database.fetch(
            """INSERT INTO public.user_token_balances (id, "userId", balance, tier, "updatedAt")
               VALUES ($1, $2, $3, $4::text::public."SubscriptionTier", darkroom.utc_now())""",
            new_id("b"),
            user_id,
            balance,
            tier,
        )
    return user_id


async def make_image(database: Database, user_id: str, *, key: str | None = None, is_public: bool = False) -> str:
    """Insert a picture's row, without an object; return its id."""
    image_id = new_id("i")
    await database.fetch(
        """INSERT INTO public.enhanced_images (id, "userId", name, "originalUrl", "originalR2Key", "originalWidth",
               "originalHeight", "originalSizeBytes", "originalFormat", "isPublic", "updatedAt")
           VALUES ($1, $2, 'picture', 'https://example.test/x', $3, 640, 480, 1000, 'jpeg', $4, darkroom.utc_now())""",
        image_id,
        user_id,
        key or f"users/{user_id}/originals/{image_id}.jpg",
        is_public,
    )
    return image_id


async def make_job(
    database: Database,
    *,
    job_id: str | None = None,
    user_id: str | None = None,
    image_id: str | None = None,
    tier: str = "TIER_1K",
    status: str = "PENDING",
    **columns: Any,
) -> str:
    """Insert an enhancement job, with whatever it needs; `columns` are further ones by name. Return its id."""
    user_id = user_id or await make_user(database)
    image_id = image_id or await make_image(database, user_id)
    job_id = job_id or new_id("j")
    names = ", ".join(f'"{name}"' for name in columns)
    places = ", ".join(f"${number}" for number in range(7, 7 + len(columns)))
    await database.fetch(
        f"""INSERT INTO public.image_enhancement_jobs
                (id, "imageId", "userId", tier, "tokensCost", status, "updatedAt"{", " + names if names else ""})
            VALUES ($1, $2, $3, $4::text::public."EnhancementTier", $5, $6::text::public."JobStatus",
                darkroom.utc_now(){", " + places if places else ""})""",
        job_id,
        image_id,
        user_id,
        tier,
        PRICE[tier],
        status,
        *columns.values(),
    )
    return job_id


async def make_generation(
    database: Database,
    *,
    user_id: str | None = None,
    kind: str = "GENERATE",
    tier: str = "TIER_1K",
    prompt: str = "a cat",
    api_key_id: str | None = None,
) -> str:
    """Insert a job of mcp_generation_jobs; return its id."""
    user_id = user_id or await make_user(database)
    job_id = new_id("g")
    await database.fetch(
        """INSERT INTO public.mcp_generation_jobs (id, "userId", type, tier, "tokensCost", status, prompt, "apiKeyId",
               "updatedAt")
           VALUES ($1, $2, $3::text::public."McpJobType", $4::text::public."EnhancementTier", $5, 'PENDING', $6, $7,
                   darkroom.utc_now())""",
        job_id,
        user_id,
        kind,
        tier,
        PRICE[tier],
        prompt,
        api_key_id,
    )
    return job_id


async def make_api_key(database: Database, user_id: str, *, is_active: bool = True) -> str:
    """Insert an API key; return its id."""
    key_id = new_id("k")
    await database.fetch(
        """INSERT INTO public.api_keys (id, "userId", name, "keyHash", "keyPrefix", "isActive", "updatedAt")
           VALUES ($1, $2, 'key', $1, 'k', $3, darkroom.utc_now())""",
        key_id,
        user_id,
        is_active,
    )
    return key_id


async def load_rows(database: Database, claim: Claim) -> JobRows:
    """Return all rows that a run of the claim would read."""
    return await JobReader(database).read(claim, needs_kept=True, needs_artifact=True)


async def load_inputs(database: Database, claim: Claim) -> JobInputs:
    """Return what the claimed job works on."""
    return (await load_rows(database, claim)).inputs


async def job_row(database: Database, job_id: str) -> Any:
    """Return a job's row as the view darkroom.jobs shows it, or None."""
    return await database.fetchrow("SELECT * FROM darkroom.jobs WHERE id = $1", job_id)


async def balance_of(database: Database, user_id: str) -> int | None:
    """Return a user's balance; None without a row."""
    value = await database.fetchval('SELECT balance FROM public.user_token_balances WHERE "userId" = $1', user_id)
    return None if value is None else int(value)


async def money_violations(database: Database) -> list[str]:
    """Return every violation of I3, I4 and I7 that a query over the database finds."""
    rows = await database.fetch("SELECT promise, finding FROM darkroom.money_violations")
    return [f"{row['promise']}: {row['finding']}" for row in rows]


async def make_balance(database: Database, user_id: str, balance: int) -> None:
    """Insert the balance of a user that has none."""
    await database.fetch(
        """INSERT INTO public.user_token_balances (id, "userId", balance, "updatedAt")
           VALUES ($1, $2, $3, darkroom.utc_now())""",
        new_id("b"),
        user_id,
        balance,
    )


def make_artifact(**changes: Any) -> Artifact:
    """Return an artifact, the record of a stored picture; `changes` are fields by name."""
    made = Artifact("f" * 64, "users/u/enhanced/i/j-0.jpg", "0" * 64, 10, 4, 3, "model-1", 0.4, ["denoised"])
    return replace(made, **changes)


async def make_pipeline(database: Database, user_id: str | None, *, visibility: str = "PRIVATE", **configs: Any) -> str:
    """Insert a pipeline; `configs` are its JSON columns by name. Return its id."""
    pipeline_id = new_id("p")
    names = ("analysisConfig", "autoCropConfig", "promptConfig", "generationConfig")
    await database.fetch(
        """INSERT INTO public.enhancement_pipelines (id, "userId", name, visibility, "analysisConfig", "autoCropConfig",
               "promptConfig", "generationConfig", "updatedAt")
           VALUES ($1, $2, $1, $3::text::public."PipelineVisibility", $4, $5, $6, $7, darkroom.utc_now())""",
        pipeline_id,
        user_id,
        visibility,
        *(configs.get(name) for name in names),
    )
    return pipeline_id


async def make_worker(database: Database, *, lease_s: float = 60, queues: Sequence[str] = ("default",)) -> UUID:
    """Insert a worker whose lease lasts so long, or expired so long ago if it is negative; return its id."""
    worker_id = uuid4()
    await database.run(
        lambda connection: renew_lease(
            connection, worker_id, host="here", pid=1, queues=list(queues), lanes=4, lease_s=lease_s
        )
    )
    return worker_id


async def claim_jobs(
    database: Database,
    worker_id: UUID | None = None,
    *,
    most: int = 1,
    deadline_s: float = 60,
    queue: str = "default",
) -> list[Claim]:
    """Claim jobs as an idle worker does: if there are none, a suspect alone. The worker is new unless one is given."""
    worker = worker_id or await make_worker(database, queues=[queue])
    deadlines_s = dict.fromkeys(("ANALYZING", "CROPPING", "PROMPTING", "GENERATING"), deadline_s)
    if claims := await database.run(lambda connection: claim(connection, worker, queue, most, deadlines_s)):
        return claims
    due = await database.run(lambda connection: due_suspects(connection, worker, [queue]))
    return (await claim_suspect(database, worker, due, deadlines_s)).claims


async def make_claim(database: Database, table: str = "enhancements", **columns: Any) -> Claim:
    """Insert a job of one of the two tables and claim it; `columns` as for its builder."""
    make = make_job if table == "enhancements" else make_generation
    job_id = await make(database, **columns)
    (claimed,) = await claim_jobs(database)
    assert claimed.job_id == job_id
    return claimed


async def set_status(database: Database, job_id: str, status: str) -> None:
    """Write a status as another program does: blindly, by id, in both tables."""
    for table in ("image_enhancement_jobs", "mcp_generation_jobs"):
        await database.fetch(
            f'UPDATE public.{table} SET status = $2::text::public."JobStatus" WHERE id = $1', job_id, status
        )


async def set_mode(database: Database, mode: str) -> None:
    """Change the mode of money as `db upgrade` does, on an empty queue."""
    assert await database.fetchval("SELECT count(*) FROM darkroom.job_queue") == 0
    await database.fetch("UPDATE darkroom.settings SET value = to_jsonb($1::text) WHERE key = 'mode'", mode)


async def set_stage_queues(database: Database, **queues: str) -> None:
    """Record the queues of stages as `db upgrade` does, without moving jobs."""
    await database.fetch(
        """INSERT INTO darkroom.settings (key, value) VALUES ('stage_queues', $1)
           ON CONFLICT (key) DO UPDATE SET value = excluded.value""",
        queues,
    )
    await database.fetch("SELECT darkroom.make_queues()")


async def queue_row(database: Database, job_id: str) -> Any:
    """Return the queue row of a job, or None."""
    return await database.fetchrow("SELECT * FROM darkroom.job_queue WHERE job_id = $1", job_id)


async def ledger_of(database: Database, user_id: str) -> list[Any]:
    """Return a user's ledger, oldest first; the rows of one statement in any order."""
    return await database.fetch(
        """SELECT amount, type::text, source, "sourceId", "balanceAfter", metadata FROM public.token_transactions
           WHERE "userId" = $1 ORDER BY "createdAt", ctid""",
        user_id,
    )


async def all_rows(database: Database) -> dict[str, list[str]]:
    """Return every row that a claim can write, as text, by table: for comparing before and after."""
    tables = (
        *("public.image_enhancement_jobs", "public.mcp_generation_jobs", "public.user_token_balances"),
        *("public.token_transactions", "public.enhancement_pipelines", "darkroom.job_queue", "darkroom.job_money"),
        *("darkroom.stage_runs", "darkroom.provider_calls", "darkroom.artifacts", "darkroom.checkpoints"),
    )
    return {
        table: [row[0] for row in await database.fetch(f"SELECT t::text FROM {table} t ORDER BY 1")] for table in tables
    }


async def every_row(database: Database) -> dict[str, list[str]]:
    """Return every row of every table of the application's and of ours, as text, by table: for searching."""
    tables = await database.fetch(
        """SELECT format('%I.%I', schemaname, tablename) AS name FROM pg_tables
           WHERE schemaname IN ('public', 'darkroom')"""
    )
    return {name: [row[0] for row in await database.fetch(f"SELECT t::text FROM {name} t")] for (name,) in tables}


async def waiting_for_locks(database: Database) -> int:
    """Return how many sessions of this database wait for another's lock."""
    return int(
        await database.fetchval(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        )
    )
