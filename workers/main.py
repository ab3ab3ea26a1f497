"""The entry point of a worker process: what dramatiq is given on its command line."""

from workers.process.worker import main

__all__ = ["main"]
