"""How each peer is started, and with how many processes and how much concurrency, without importing any of them."""

from dataclasses import dataclass

CELERY_PROCESSES = 8
DRAMATIQ_PROCESSES, DRAMATIQ_THREADS = 2, 8
ASYNC_PROCESSES, ASYNC_CONCURRENCY = 2, 16
"""The asyncio systems have two processes, one a core. Celery and dramatiq wait in processes and threads, so they need
more of them than there are cores."""


@dataclass(frozen=True, slots=True)
class Peer:
    """One system: its module in bench.peers, the command of its workers, and how often the command is started."""

    module: str
    command: tuple[str, ...]
    copies: int = 1


PEERS = {
    "celery": Peer(
        "celery_app",
        (
            *("celery", "-A", "bench.peers.celery_app", "worker", "--pool", "prefork"),
            *("--concurrency", str(CELERY_PROCESSES), "--loglevel", "warning"),
            *("--without-gossip", "--without-mingle", "--without-heartbeat"),
        ),
    ),
    "saq": Peer("saq_app", ("saq", "bench.peers.saq_app.settings", "--workers", str(ASYNC_PROCESSES), "--quiet")),
    "taskiq": Peer(
        "taskiq_app",
        (
            *("taskiq", "worker", "bench.peers.taskiq_app:broker", "--workers", str(ASYNC_PROCESSES)),
            *("--log-level", "WARNING", "--max-async-tasks", str(ASYNC_CONCURRENCY)),
        ),
    ),
    "procrastinate": Peer(
        "procrastinate_app",
        (
            *("procrastinate", "--app", "bench.peers.procrastinate_app.app", "worker"),
            *("--concurrency", str(ASYNC_CONCURRENCY)),
        ),
        copies=ASYNC_PROCESSES,
    ),
    "dramatiq+orm": Peer(
        "dramatiq_app",
        (
            *("dramatiq", "bench.peers.dramatiq_app"),
            *("--processes", str(DRAMATIQ_PROCESSES), "--threads", str(DRAMATIQ_THREADS)),
        ),
    ),
}


def pillow(pool: str, concurrency: int) -> Peer:
    """Return Celery with Pillow in its task: `prefork` for pixels, `threads` for calls that mostly wait."""
    return Peer(
        "pillow_app",
        (
            *("celery", "-A", "bench.peers.pillow_app", "worker", "--pool", pool, "--concurrency", str(concurrency)),
            *("--loglevel", "warning", "--without-gossip", "--without-mingle", "--without-heartbeat"),
        ),
    )
