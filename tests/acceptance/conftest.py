"""Fixtures for tests with real processes and real services."""

from tests.support.fleet import fleet  # noqa: F401 - a fixture, found by its name
