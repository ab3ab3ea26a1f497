"""Logging that a test set up is forgotten after it."""

import logging
from collections.abc import Iterator

import pytest
import structlog

from config.logger import before_first_event, configured_logger


@pytest.fixture
def logging_restored() -> Iterator[None]:
    """Leave logging as it was before the test set it up."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = handlers, level
    before_first_event.clear()
    configured_logger.clear()
    structlog.reset_defaults()
