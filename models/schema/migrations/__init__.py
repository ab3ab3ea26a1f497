"""Migrations in two branches: `application` for the tables of an empty database, `darkroom` for any database."""
