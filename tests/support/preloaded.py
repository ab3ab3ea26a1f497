"""Imports and results that the fork server prepares once for all of its children.

A process that starts compares the database with what this release makes, and opens its providers. To render the one
and import the others takes longer than most lives of tests, and gives each of them the same. A process that does the
pixel work itself imports for that, too, which took more than half of its life.
"""

import gc

import anyio._backends._asyncio
from PIL import Image
from sqlalchemy.ext.asyncio import create_async_engine

from config import log_lines
from config.postgres_url import parse_postgres_url
from models.schema.migrations import repeatable, session, tables, triggers
from pipelines.imaging import finishing, orientation
from pipelines.job_types import import_stages
from pipelines.providers.gemini import provider as gemini
from pipelines.providers.local import provider as local
from pipelines.providers.openai import provider as openai
from pipelines.providers.remote import trusted_roots
from tests.support import forked, victim

__all__ = ["anyio", "finishing", "forked", "gemini", "local", "log_lines", "openai", "orientation", "victim"]

import_stages()
Image.preinit()
tables.parts()
repeatable.wanted(session.OUR_COST_COLUMN)
triggers.wanted(session.OUR_COST_COLUMN)
trusted_roots()
create_async_engine(parse_postgres_url("postgresql://nobody@127.0.0.1:1/none").sqlalchemy_arguments()[0])
gc.freeze()  # the garbage collector of a child would write to, and so copy, the memory that they share
