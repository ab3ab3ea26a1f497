"""What is made in a database that has none of the tables of `pictures`."""

import re

import pytest

from models.applications import registry
from models.applications.studio.application import application
from models.schema.migrations import repeatable, tables
from models.schema.migrations.session import OUR_COST_COLUMN, sql_of

MAY_NAME = frozenset({"has_subscriptions", "users_with_priority", "enqueue_one"})
"""Functions that ask first whether there are tables of subscriptions."""


@pytest.fixture
def made():
    """Every function and view by its name, without comments, for `studio` alone."""
    registry.use([application("shop")])
    return {one.name: re.sub(r"--.*", "", one.sql) for one in repeatable.wanted(OUR_COST_COLUMN)}


def test_no_function_calls_one_that_only_pictures_has(made):
    sql = "".join(sql_of(name, cost_column=OUR_COST_COLUMN) for name in tables.FILES)
    known = made.keys() | set(re.findall(r"CREATE (?:TABLE|SEQUENCE|TYPE)(?: IF NOT EXISTS)? darkroom\.(\w+)", sql))

    called = {name: set(re.findall(r"\bdarkroom\.(\w+)\(", text)) - known for name, text in made.items()}

    assert {name: unknown for name, unknown in called.items() if unknown} == {}


def test_nothing_names_a_table_of_public(made):
    assert {name for name, text in made.items() if re.search(r"\bpublic\.", text)} <= MAY_NAME


def test_nothing_is_made_in_public():
    registry.use([application("shop")])

    assert "ON public." not in sql_of("queue/triggers.sql", cost_column=OUR_COST_COLUMN)
