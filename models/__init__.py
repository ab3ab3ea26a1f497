"""Database rows: tables, the state machine of jobs, SQL, migrations."""
