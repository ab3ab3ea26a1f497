"""How a supervisor tells its worker processes where they record: variables of their environment."""

from typing import Final

FOLDER: Final = "WORKER_METRICS_FOLDER"
"""The folder in which a worker process keeps its values; unset if nobody reads them."""

SLOT: Final = "WORKER_SLOT"
"""The number of the supervisor's slot in which a worker process is."""
