"""Checks whether Darkroom can work on tables that another tool made, before its own schema is applied.

Names of indexes and constraints aren't checked: databases with hand-edited migrations lack or rename them.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection, text
from sqlalchemy.dialects import postgresql

from models.applications.pictures.tables import TABLES
from models.applications.registry import spend_types
from models.schema.migrations.errors import InvalidSettingError, UnusableSchemaError
from models.schema.migrations.session import OUR_COST_COLUMN

COST_COLUMNS_KNOWN = ("tokensCost", "creditsCost")

JOB_TABLES = ("image_enhancement_jobs", "mcp_generation_jobs")

REQUIRED_COLUMNS: Mapping[str, str] = {
    "users": "id email",
    "user_token_balances": "id userId balance lastRegeneration tier updatedAt",
    "token_transactions": "id userId amount type source sourceId balanceAfter metadata createdAt",
    "enhanced_images": "id userId name originalUrl originalR2Key originalWidth originalHeight originalSizeBytes "
    "originalFormat isPublic createdAt updatedAt",
    "enhancement_pipelines": "id userId visibility analysisConfig autoCropConfig promptConfig generationConfig "
    "usageCount",
    "albums": "id userId pipelineId",
    "album_images": "albumId imageId sortOrder addedAt",
    "image_enhancement_jobs": "id imageId userId tier tokensCost status currentStage enhancedUrl enhancedR2Key "
    "enhancedWidth enhancedHeight enhancedSizeBytes errorMessage retryCount maxRetries geminiPrompt geminiModel "
    "geminiTemp processingStartedAt processingCompletedAt createdAt updatedAt workflowRunId analysisResult "
    "analysisSource wasCropped cropDimensions pipelineId sourceImageId isBlend isAnonymous",
    "mcp_generation_jobs": "id userId apiKeyId type tier tokensCost status prompt inputImageUrl inputImageR2Key "
    "outputImageUrl outputImageR2Key outputWidth outputHeight outputSizeBytes errorMessage geminiModel "
    "processingStartedAt processingCompletedAt createdAt updatedAt",
    "subscriptions": "userId status tier currentPeriodStart currentPeriodEnd cancelAtPeriodEnd downgradeTo "
    "tokensPerMonth rolloverTokens maxRollover updatedAt",
    "subscription_plans": "id name stripePriceId priority active tokensPerMonth maxRollover sortOrder",
    "error_logs": "id timestamp message stack callerName userId route environment errorType errorCode metadata",
}
"""The columns that the queue, the money, the stages and the periodic tasks read or write, by table.

Other tables are optional: code that reads one of them first checks that it exists, and periodic tasks list theirs in
`Task.needs`.
"""

REQUIRED_LABELS: Mapping[str, frozenset[str]] = {
    "ErrorEnvironment": frozenset({"BACKEND"}),
    "TokenTransactionType": frozenset({"EARN_REGENERATION", "REFUND", *spend_types()}),
}
"""Enum types of which some labels are enough; of the other types every label must exist."""

FILLED_COLUMNS: Mapping[str, str] = {
    "user_token_balances": "id userId balance updatedAt",
    "token_transactions": "id userId amount type source balanceAfter createdAt",
    "image_enhancement_jobs": "id imageId userId tier tokensCost status createdAt updatedAt isBlend",
    "mcp_generation_jobs": "id userId type tier tokensCost status prompt createdAt updatedAt",
    "enhanced_images": "id userId name originalUrl originalR2Key originalWidth originalHeight originalSizeBytes "
    "originalFormat createdAt updatedAt",
    "error_logs": "id timestamp message userId route environment errorType callerName metadata",
}
"""The columns for which Darkroom's INSERTs have a value. Any other required column would make the INSERT fail."""

UNIQUE_COLUMNS: Mapping[str, str] = {"user_token_balances": "userId"}
"""Columns that must be unique, because a second row would be a second balance, and `ON CONFLICT` needs the index."""

MONEY_TABLES = frozenset({"user_token_balances", "token_transactions"})
"""Tables that Darkroom writes unless the application charges and refunds by itself (mode external)."""

USABLE_TYPES: tuple[tuple[type[sa.types.TypeEngine[Any]], frozenset[str]], ...] = (
    (sa.Text, frozenset({"text", "varchar", "citext"})),
    (sa.Integer, frozenset({"int4", "int8"})),
    (sa.Boolean, frozenset({"bool"})),
    (sa.Double, frozenset({"float8", "float4", "numeric"})),
    # In a column with a time zone, a time that is written as UTC would be read as the session's local time
    (postgresql.TIMESTAMP, frozenset({"timestamp"})),
    (postgresql.JSONB, frozenset({"jsonb"})),
)
"""Types, by pg_type's names, that a column may have in place of the type that our own schema would give it."""

COLUMNS = text("""
    SELECT relname, attname, typname,
        attnotnull AND NOT atthasdef AND attidentity = '' AND attgenerated = '' AS must_be_given
    FROM pg_attribute
    JOIN pg_class ON pg_class.oid = attrelid
    JOIN pg_type ON pg_type.oid = atttypid
    WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p') AND attnum > 0 AND NOT attisdropped
""")

# Indexes that ON CONFLICT can use: over all rows, and not deferrable
UNIQUE = text("""
    SELECT relname, attname FROM pg_index
    JOIN pg_class ON pg_class.oid = indrelid
    JOIN pg_attribute ON attrelid = indrelid AND attnum = indkey[0]
    WHERE relnamespace = 'public'::regnamespace AND indnkeyatts = 1
        AND indisunique AND indisvalid AND indimmediate AND indpred IS NULL
""")

LABELS = text("""
    SELECT typname, enumlabel FROM pg_enum JOIN pg_type ON pg_type.oid = enumtypid
    WHERE typnamespace = 'public'::regnamespace
""")


@dataclass(frozen=True, slots=True)
class Column:
    """A column as the database has it; `must_be_given` says whether an INSERT must give a value."""

    type_name: str
    must_be_given: bool


def require_usable_tables(connection: Connection, cost_column: str, mode: str) -> None:
    """Check that Darkroom can work on the tables in `public`, with the money in this mode.

    Raises:
        InvalidSettingError: the cost column is one that has another meaning.
        UnusableSchemaError: names every table.column that is missing or of a type that can't be used.
    """
    if cost_column != OUR_COST_COLUMN and any(cost_column in table.c for table in map(TABLES.__getitem__, JOB_TABLES)):
        raise InvalidSettingError(f"the cost can't stand in {cost_column!r}: that column has a meaning of its own")
    faults = [*usability_faults(connection, cost_column), *row_faults(connection, cost_column, mode)]
    if faults:
        raise UnusableSchemaError(faults)


def usability_faults(connection: Connection, cost_column: str) -> Iterator[str]:
    """Yield a sentence for each table, column and label that Darkroom needs and that is missing or has a wrong type."""
    found = _found_columns(connection)
    labels: dict[str, set[str]] = {}
    for type_name, label in connection.execute(LABELS):
        labels.setdefault(type_name, set()).add(label)
    yield from _column_faults(found, cost_column)
    yield from _label_faults(labels)


def row_faults(connection: Connection, cost_column: str, mode: str) -> Iterator[str]:
    """Yield a sentence for each reason why Darkroom's INSERTs would fail.

    It is also used on databases that were usable before.
    """
    found = _found_columns(connection)
    yield from _insert_faults(found, cost_column, mode)
    yield from _unique_faults(connection, found, mode)


def _found_columns(connection: Connection) -> dict[str, dict[str, Column]]:
    found: dict[str, dict[str, Column]] = {}
    for table, name, type_name, must_be_given in connection.execute(COLUMNS):
        found.setdefault(table, {})[name] = Column(type_name, must_be_given)
    return found


def _column_faults(found: Mapping[str, Mapping[str, Column]], cost_column: str) -> Iterator[str]:
    for table, names in REQUIRED_COLUMNS.items():
        if table not in found:
            yield f"table {table} is missing"
            continue
        for ours in names.split():
            name = cost_column if ours == OUR_COST_COLUMN else ours
            column = found[table].get(name)
            if column is None:
                yield f"{table}.{name} is missing" + _cost_hint(ours, found[table])
            elif column.type_name not in (usable := _usable_types(TABLES[table].c[ours].type)):
                yield f"{table}.{name} is {column.type_name}, not {' or '.join(sorted(usable))}"


def _cost_hint(ours: str, columns: Mapping[str, Column]) -> str:
    if ours != OUR_COST_COLUMN:
        return ""
    there = [name for name in COST_COLUMNS_KNOWN if name in columns]
    if there:
        return f" ({there[0]} is there: set DARKROOM_COST_COLUMN={there[0]}, then run darkroom db upgrade)"
    return " (if it has another name now, set DARKROOM_COST_COLUMN to that, then run darkroom db upgrade)"


def _usable_types(ours: sa.types.TypeEngine[Any]) -> frozenset[str]:
    if isinstance(ours, postgresql.ENUM):
        return frozenset({str(ours.name)})
    return next(usable for kind, usable in USABLE_TYPES if isinstance(ours, kind))


def _label_faults(found: Mapping[str, set[str]]) -> Iterator[str]:
    types = {
        str(column.type.name): frozenset(column.type.enums)
        for table, names in REQUIRED_COLUMNS.items()
        for column in (TABLES[table].c[name] for name in names.split())
        if isinstance(column.type, postgresql.ENUM)
    }
    for name, labels in types.items():
        missing = REQUIRED_LABELS.get(name, labels) - found.get(name, set())
        if name in found and missing:  # a type that doesn't exist was reported with its column
            yield f'type "{name}" lacks {", ".join(sorted(missing))}'


def _insert_faults(found: Mapping[str, Mapping[str, Column]], cost_column: str, mode: str) -> Iterator[str]:
    for table, names in FILLED_COLUMNS.items():
        filled = {cost_column if name == OUR_COST_COLUMN else name for name in names.split()}
        for name, column in found.get(table, {}).items():
            if column.must_be_given and name not in filled and _writes(table, mode):
                yield f"{table}.{name} is NOT NULL without a default, and Darkroom's rows wouldn't have it"


def _unique_faults(connection: Connection, found: Mapping[str, object], mode: str) -> Iterator[str]:
    unique = {(table, name) for table, name in connection.execute(UNIQUE)}
    for table, name in UNIQUE_COLUMNS.items():
        if table in found and (table, name) not in unique and _writes(table, mode):
            yield (
                f"{table}.{name} has no unique index that is neither partial nor deferrable: make two rows of one user "
                f'one, then CREATE UNIQUE INDEX ON public.{table} ("{name}")'
            )


def _writes(table: str, mode: str) -> bool:
    return mode != "external" or table not in MONEY_TABLES
