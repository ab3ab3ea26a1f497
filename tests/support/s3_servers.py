"""Two S3-compatible servers for tests: moto for the semantics, rclone for signatures."""

import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import boto3
import httpx

from tests.support.patience import HANGS_AFTER_S

BUCKET = "pictures"


@dataclass(frozen=True)
class S3Server:
    """Where a server answers, and the key pair that it takes."""

    endpoint: str
    access_key: str
    secret_key: str

    @property
    def environment(self) -> dict[str, str]:
        return {
            "AWS_ENDPOINT_URL_S3": self.endpoint,
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        }


@contextmanager
def moto_server() -> Iterator[S3Server]:
    """Run moto in a thread of this process; it takes any key."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from moto.server import ThreadedMotoServer  # noqa: PLC0415 - two seconds that other tests needn't wait

        server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
        server.start()
    host, port = server.get_host_and_port()
    made = S3Server(f"http://{host}:{port}", "moto", "moto-secret")
    client = boto3.client(
        "s3",
        endpoint_url=made.endpoint,
        region_name="us-east-1",
        aws_access_key_id=made.access_key,
        aws_secret_access_key=made.secret_key,
    )
    client.create_bucket(Bucket=BUCKET)
    client.close()
    try:
        yield made
    finally:
        server.stop()


@contextmanager
def rclone_server(folder: Path) -> Iterator[S3Server]:
    """Run `rclone serve s3` over a folder; it checks signatures and expiry."""
    (folder / BUCKET).mkdir(parents=True)
    made = S3Server(f"http://127.0.0.1:{_free_port()}", secrets.token_hex(8), secrets.token_hex(16))
    program = shutil.which("rclone", path=str(Path(sys.executable).parent)) or "rclone"
    arguments = ["serve", "s3", "--config", "", "--addr", made.endpoint.removeprefix("http://")]
    process = subprocess.Popen(
        [program, *arguments, "--auth-key", f"{made.access_key},{made.secret_key}", str(folder)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        _wait_until_it_answers(made.endpoint, process)
        yield made
    finally:
        process.terminate()
        process.wait(HANGS_AFTER_S)


def _wait_until_it_answers(endpoint: str, process: subprocess.Popen[bytes]) -> None:
    ends = time.monotonic() + HANGS_AFTER_S
    while time.monotonic() < ends:
        assert process.poll() is None, f"rclone ended with {process.returncode}"
        try:
            httpx.get(endpoint, trust_env=False, timeout=1)
        except httpx.TransportError:
            time.sleep(0.05)
        else:
            return
    raise AssertionError(f"rclone doesn't answer at {endpoint}")


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
