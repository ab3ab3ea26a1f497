"""The application `studio` in a schema of its own beside the first, in a chaos run: `--tables tests.chaos.studio`."""

import hashlib
import io
from collections.abc import Callable, Sequence
from pathlib import Path

import asyncpg
from PIL import Image

from pipelines.storage.storage import Storage
from tests.chaos.added import AddedTable, AddedTables
from tests.chaos.conditions import ROLE
from tests.chaos.programs import Program
from tests.chaos.studio_audit import CHECKS, PICTURES
from tests.chaos.studio_programs import (
    FILES,
    POOR_USERS,
    USERS,
    Changer,
    Customer,
    Deleter,
    Purchaser,
    Recent,
    Uploader,
)

TABLES = Path(__file__).parents[1] / "integration" / "studio" / "tables.sql"

DDL = f"""
CREATE SCHEMA studio;
SET search_path = studio;
{TABLES.read_text()}
-- The application's own: what it adds to balances or takes from them, in the same transaction.
CREATE TABLE purchases ("userId" text NOT NULL, amount integer NOT NULL);
GRANT USAGE ON SCHEMA studio TO {ROLE};
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA studio TO {ROLE};
RESET search_path;
"""

TOKENS, FEW_TOKENS = 300, 6
PICTURE_PX = (90, 120)
SHARE = 0.3
"""So many generations there are to one job of the others."""

STATES = {
    "uploading": "PENDING",
    "pending": "PENDING",
    "processing": "PROCESSING",
    "completed": "COMPLETED",
    "failed": "FAILED",
    "cancelled": "CANCELLED",
}


async def set_up(connection: asyncpg.Connection, storage: Storage) -> None:
    """Insert users with balances, and files: two that exist in every category, and one without an object."""
    for number, user in enumerate(USERS):
        await connection.execute(
            'INSERT INTO studio.users (_id, email, "tokenBalance") VALUES ($1, $2, $3)',
            user,
            f"{user}@studio.test",
            FEW_TOKENS if user in POOR_USERS else TOKENS,
        )
        for name, category in FILES:
            key = f"uploads/{user}/{name}.jpg"
            if name != "lost":
                data = io.BytesIO()
                Image.new("RGB", PICTURE_PX, (13 * number, 120, 60)).save(data, "JPEG")
                content = data.getvalue()
                await storage.put(key, content, "image/jpeg", hashlib.sha256(content).hexdigest())
            await connection.execute(
                'INSERT INTO studio.files (_id, "userId", category, "storageId") VALUES ($1, $2, $3, $4)',
                f"{user}-{name}",
                user,
                category,
                key,
            )


def programs(made: Callable[..., Program], others_per_s: float) -> Sequence[Program]:
    """Return the programs of the application; its producers insert so many generations for the others' jobs."""
    recent = Recent(list(USERS))
    customers, generations, uploaders, uploads = 2, 2.5, 1, 1
    per_s = SHARE * others_per_s
    return [
        *(
            made(
                Customer,
                f"customer {one}",
                is_application=one % 2 == 1,
                recent=recent,
                pause_s=customers * generations / (0.75 * per_s),
            )
            for one in range(customers)
        ),
        made(Uploader, "uploader", is_application=True, recent=recent, pause_s=uploaders * uploads / (0.25 * per_s)),
        made(Changer, "studio changer", is_application=True, recent=recent),
        made(Deleter, "studio deleter", is_application=True, recent=recent),
        made(Purchaser, "purchaser", is_application=True, recent=recent),
    ]


ADDED = AddedTables(
    applications=("studio@studio",),
    ddl=DDL,
    tables=(
        AddedTable(
            "studio.generations",
            "_id",
            "status",
            STATES,
            stages={"studio.modify": ("GENERATING",), "studio.generate": ("GENERATING",)},
            balances='SELECT _id, "tokenBalance"::bigint FROM studio.users',
            pictures=PICTURES,
        ),
    ),
    set_up=set_up,
    programs=programs,
    at_end="UPDATE studio.generations SET status = 'pending' WHERE status = 'uploading'",
    checks=CHECKS,
)
