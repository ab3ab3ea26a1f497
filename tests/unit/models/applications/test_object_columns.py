"""The list of columns that can name an object is complete for the documented tables."""

import re

import sqlalchemy as sa

from models.applications.pictures.object_columns import OBJECT_COLUMNS
from models.applications.pictures.tables import TABLES
from models.applications.registry import job_tables

NAMES_NONE = {"apiKeyId", "cacheKey", "imageId", "keyHash", "keyPrefix", "sourceFile", "sourceImageId"}


def test_declared_columns_exist_and_hold_text_or_json() -> None:
    for table, columns in OBJECT_COLUMNS.items():
        for column in columns:
            assert isinstance(TABLES[table].columns[column].type, sa.Text | sa.JSON), f"{table}.{column}"
    assert [table.rows for table in job_tables() if not set(table.input_columns) <= set(table.object_columns)] == []


def test_every_documented_column_that_sounds_like_a_key_or_url_is_declared() -> None:
    sounding = {
        (table.name, column.name)
        for table in TABLES.values()
        for column in table.columns
        if isinstance(column.type, sa.Text)
        and re.search(r"key|url|image|picture|cover|file$", column.name, re.IGNORECASE)
    }
    declared = {(table, column) for table, columns in OBJECT_COLUMNS.items() for column in columns}

    assert {column for _, column in sounding - declared} == NAMES_NONE


def test_every_json_column_of_other_programs_is_declared_except_in_logs() -> None:
    written_by_us = {("image_enhancement_jobs", "analysisResult"), ("image_enhancement_jobs", "cropDimensions")}
    logs = {("audit_logs", "metadata"), ("error_logs", "metadata")}
    holding_json = {
        (table.name, column.name)
        for table in TABLES.values()
        for column in table.columns
        if isinstance(column.type, sa.JSON)
    }
    declared = {(table, column) for table, columns in OBJECT_COLUMNS.items() for column in columns}

    assert holding_json - declared == written_by_us | logs
