"""The schema: migrations, and what `db upgrade` makes and `db check` looks for."""
