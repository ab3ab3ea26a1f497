"""Fixtures of tests that need no server."""

from tests.support.kept_pixels import kept_children, pixels  # noqa: F401 - fixtures, found by their names
from tests.support.logging_restored import logging_restored  # noqa: F401 - as above
