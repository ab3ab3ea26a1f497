"""The schema: migrations, what `db upgrade` creates, and what `db check` compares."""
