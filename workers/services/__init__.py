"""PostgreSQL and Redis of our own, for machines that have none."""
