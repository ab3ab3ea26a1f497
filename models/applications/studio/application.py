"""The description of `studio`."""

from functools import cache
from pathlib import Path
from typing import Final

from models.applications.application import Application
from models.applications.studio.job_table import generations
from models.job_tables.quoting import quoted_name

_SQL: Final = Path(__file__).with_name("studio.sql")

_NEEDS: Final = {
    "users": "_id email name externalId tokenBalance totalTokensPurchased",
    "files": "_id userId category storageId url width height sizeBytes createdAt",
    "generations": "_id userId status prompt parameters productImageFiles modelImageFiles resultImageFiles tokensUsed "
    "error startedAt completedAt createdAt",
    "usage": "_id userId action timestamp metadata",
}


@cache
def application(schema: str) -> Application:
    """Return the application whose tables stand in a schema; the same value each time, by which SQL is cached."""
    quoted = quoted_name(schema)
    return Application(
        name="studio",
        schema=schema,
        tables=(generations(quoted),),
        needs=_NEEDS,
        references={f"{quoted}.files": ("storageId", "url")},
        sql=_SQL.read_text(encoding="utf-8").replace("{schema}", quoted),
    )
