"""Entry point of a worker process: the module that dramatiq's command line names."""

from workers.process.worker import main

__all__ = ["main"]
