"""The command status, which `darkroom` without arguments also runs: the installation's state, and useful commands."""

from typing import Final

import typer

from config.postgres_url import parse_postgres_url
from pipelines.settings import Settings
from workers.cli.failures import DONE
from workers.cli.opening import known_settings, run_with_runtime
from workers.cli.tables import print_fields
from workers.cli.version import version
from workers.operations.overview import Overview, overview
from workers.presentation.values import duration
from workers.process.runtime import Runtime
from workers.services.instance import EmbeddedInstance
from workers.services.services import EMBEDDED_FOLDER

_FIRST: Final = ("darkroom demo", "darkroom enhance PICTURE --out DIR", "darkroom --help")
_NEXT: Final = ("darkroom enhance PICTURE --out DIR", "darkroom jobs list", "darkroom --help")


def status() -> int:
    """Show what runs and what waits, and the next commands.

    `darkroom` alone does the same. The command doesn't start embedded services that aren't running.
    """
    settings = known_settings()
    if settings.is_embedded and not EmbeddedInstance(settings.home / EMBEDDED_FOLDER).is_running():
        has_data = (settings.home / EMBEDDED_FOLDER).exists()
        what = "PostgreSQL and Redis of its own, not running" if has_data else "nothing yet"
        _print(
            settings, {"data": f"{settings.home}: {what}", "workers": "none; `darkroom up` starts everything"}, _FIRST
        )
        return DONE

    async def work(runtime: Runtime) -> int:
        _print(settings, _fields(runtime, await overview(runtime)), _NEXT)
        return DONE

    return run_with_runtime(work)


def _print(settings: Settings, fields: dict[str, str], commands: tuple[str, ...]) -> None:
    print_fields({"darkroom": version(), **fields, "provider": ", ".join(settings.providers)})
    for command in commands:
        typer.echo(f"    {command}")


def _fields(runtime: Runtime, now: Overview) -> dict[str, str]:
    stats = now.queues.stats
    running = sum(worker.running for worker in stats.workers)
    lanes = sum(worker.lanes for worker in stats.workers)
    hosts = ", ".join(dict.fromkeys(worker.host for worker in stats.workers))
    workers = f"{len(stats.workers)} on {hosts}, {running} of {lanes} lanes busy"
    about = "about " if now.queues.is_estimate else ""
    waits = ", ".join(
        f"{about}{one.count:,} {one.status}, the oldest for {duration(one.oldest_wait_s)}" for one in stats.statuses
    )
    return {
        "data": _place(runtime),
        "workers": workers if stats.workers else "none; `darkroom up` or `darkroom worker` starts some",
        "queue": waits or "empty",
        "last day": ", ".join(f"{count:,} {status}" for status, count in now.last_day.items()) or "no job ended",
        "paused": ", ".join(pause.name for pause in stats.pauses),
    }


def _place(runtime: Runtime) -> str:
    if runtime.services.is_embedded:
        return f"{runtime.settings.home}: PostgreSQL and Redis of its own, running"
    return parse_postgres_url(runtime.services.database_url).text(with_password=False)
