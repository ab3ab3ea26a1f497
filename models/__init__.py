"""Rows: tables, state machine, SQL, migrations."""
