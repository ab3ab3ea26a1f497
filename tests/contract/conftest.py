"""Fixtures of the contract suites."""

from collections.abc import Iterator

import pytest

from tests.support.kept_pixels import kept_children, pixels  # noqa: F401 - fixtures, found by their names
from tests.support.s3_servers import S3Server, moto_server, rclone_server


@pytest.fixture(scope="module")
def moto() -> Iterator[S3Server]:
    with moto_server() as server:
        yield server


@pytest.fixture(scope="module")
def rclone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with rclone_server(tmp_path_factory.mktemp("rclone")) as server:
        yield server
