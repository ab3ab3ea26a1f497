"""The queue's fixtures, for databases that refuse something."""

from tests.integration.queue.conftest import connect, eventually, foreign, promises

__all__ = ["connect", "eventually", "foreign", "promises"]
