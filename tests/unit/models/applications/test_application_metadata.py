"""Rules of the tables' metadata, without a database."""

import re
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from models.applications.pictures import enums
from models.applications.pictures.columns import metadata
from models.applications.pictures.tables import TABLES
from models.schema.migrations.adoption import (
    FILLED_COLUMNS,
    OUR_COST_COLUMN,
    REQUIRED_COLUMNS,
    REQUIRED_LABELS,
    USABLE_TYPES,
)

REQUIRED = [(table, name) for table, names in REQUIRED_COLUMNS.items() for name in names.split()]


def test_tables_hold_every_table_of_the_metadata() -> None:
    assert {name: table for name, table in metadata.tables.items() if TABLES.get(name) is not table} == {}
    assert len(TABLES) == 20


def test_naming_convention_gives_the_names_of_other_clients() -> None:
    convention = sa.MetaData(naming_convention=metadata.naming_convention)
    table = sa.Table(
        "pictures",
        convention,
        sa.Column("id", sa.Text(), primary_key=True),
        sa.Column("userId", sa.Text(), sa.ForeignKey("users.id"), unique=True),
        sa.Index(None, "userId", "id"),
    )
    names = {*(str(one.name) for one in table.constraints), *(str(one.name) for one in table.indexes)}
    assert names == {"pictures_pkey", "pictures_userId_fkey", "pictures_userId_key", "pictures_userId_id_idx"}


def test_given_index_names_follow_the_convention() -> None:
    for table in TABLES.values():
        for index in table.indexes:
            ending = "key" if index.unique else "idx"
            assert index.name == "_".join([table.name, *(column.name for column in index.columns), ending])


def test_no_json_column_stores_the_json_null() -> None:
    columns = [column for table in TABLES.values() for column in table.columns]
    assert all(column.type.none_as_null for column in columns if isinstance(column.type, postgresql.JSONB))


@pytest.mark.parametrize(("table", "name"), REQUIRED)
def test_required_column_is_one_of_ours_with_a_type_to_compare(table: str, name: str) -> None:
    type_ = TABLES[table].c[name].type
    assert isinstance(type_, (postgresql.ENUM, *(kind for kind, _ in USABLE_TYPES)))


def test_required_labels_are_ours() -> None:
    labels = {str(type_.name): set(type_.enums) for type_ in vars(enums).values() if isinstance(type_, postgresql.ENUM)}
    assert len(labels) == 14
    assert all(required <= labels[name] for name, required in REQUIRED_LABELS.items())


_INSERT = re.compile(r"INSERT INTO public\.(\w+)(?: AS \w+)?\s*\(([^)]*)\)")
_BY_HAND = {"users", "enhancement_pipelines", "audit_logs"}
"""Tables that only an operator's command inserts into, which says what the database refuses."""


def test_every_insert_of_ours_fills_what_adoption_takes_for_filled() -> None:
    root = Path(__file__).parents[4]
    files = [*root.glob("models/**/*.sql"), *root.glob("models/**/*.py"), *root.glob("workers/**/*.py")]
    inserts = [found for file in files for found in _INSERT.finditer(file.read_text())]

    assert {found[1] for found in inserts} == _BY_HAND | set(FILLED_COLUMNS)
    for found in inserts:
        given = set(re.findall(r"\w+", found[2]))
        assert set(FILLED_COLUMNS.get(found[1], "").split()) <= given, found[0]


def test_filled_tables_are_required_and_both_job_tables_have_the_cost() -> None:
    assert set(FILLED_COLUMNS) <= set(REQUIRED_COLUMNS)
    assert [table for table, name in REQUIRED if name == OUR_COST_COLUMN] == [
        "image_enhancement_jobs",
        "mcp_generation_jobs",
    ]
