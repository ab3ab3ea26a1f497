"""A worker process with the seams of a chaos run: an entry point for dramatiq, like workers.main."""

from tests.chaos import seams
from workers.process import worker


def main():
    seams.install()
    worker.main()
