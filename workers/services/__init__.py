"""Embedded services: PostgreSQL and Redis that Darkroom starts itself, for machines that have none."""
