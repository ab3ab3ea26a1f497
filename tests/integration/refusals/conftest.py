"""The queue's fixtures, for databases that refuse some writes."""

from tests.integration.queue.conftest import connect, eventually, foreign
from tests.support.promises import damage, promises

__all__ = ["connect", "damage", "eventually", "foreign", "promises"]
