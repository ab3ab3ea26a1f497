"""Fixtures: a fake Gemini for each test."""

import pytest

from tests.support.fake_gemini.server import FakeGemini


@pytest.fixture
def server():
    with FakeGemini() as server:
        yield server
