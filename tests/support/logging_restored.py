"""Logging that a test set up is forgotten after it."""

import logging
from collections.abc import Iterator

import pytest
import structlog

from config.logger import before_first_event, configured_logger, least_level


@pytest.fixture
def logging_restored() -> Iterator[None]:
    """Leave logging as it was before the test set it up."""
    root = logging.getLogger()
    handlers, level, least = root.handlers[:], root.level, least_level[0]
    yield
    root.handlers[:], root.level, least_level[0] = handlers, level, least
    before_first_event.clear()
    configured_logger.clear()
    structlog.reset_defaults()
