"""Alembic: applies and removes the revisions of a branch. Few processes need it, and importing it takes long."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection

from models.schema.readiness import REVISIONS

HERE = Path(__file__).resolve().parent


def alembic_config(connection: Connection | None = None) -> Config:
    """Return alembic's settings, without a file; `connection` is the one that env.py will run on."""
    config = Config()
    #  alembic splits the setting at this separator; its default would be a comma or a space, which a path may contain
    config.set_main_option("path_separator", "newline")
    config.set_main_option("script_location", _escaped(HERE))
    config.set_main_option("version_locations", "\n".join(_escaped(HERE / "versions" / name) for name in REVISIONS))
    if connection is not None:
        config.attributes["connection"] = connection
    return config


def _escaped(path: Path) -> str:
    return str(path).replace("%", "%%")


def upgrade(connection: Connection, branch: str) -> None:
    """Apply a branch's revisions up to the newest, in the caller's transaction."""
    command.upgrade(alembic_config(connection), f"{branch}@head")


def downgrade(connection: Connection, branch: str) -> None:
    """Remove one branch, in the caller's transaction."""
    command.downgrade(alembic_config(connection), f"{branch}@base")
