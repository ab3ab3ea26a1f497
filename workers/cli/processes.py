"""Commands that run until they are told to stop: up, worker, scheduler."""

import asyncio
import os
import signal
import sys
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from config.log import default_format
from pipelines.settings import Settings
from workers.cli.dashboard import print_place
from workers.cli.failures import DONE, CommandUsageError
from workers.cli.greeting import greet
from workers.cli.lazy import later
from workers.cli.opening import open_settings, require_storage, run_async
from workers.cli.serving import metrics_served
from workers.operations.drain import Drain
from workers.process.open_files import OpenFilesError, require_open_files
from workers.process.runtime import make_database
from workers.process.supervisor import WorkerProcesses
from workers.services.services import Services, embedded_services

if TYPE_CHECKING:
    from workers.metrics.serving import Serving

READY_LOOK_S = 60.0

dashboard_thread = later("workers.dashboard.process:DashboardThread")
require_allowed = later("workers.cli.migrating:require_allowed")
require_known_queues = later("workers.cli.migrating:require_known_queues")
require_migrated = later("workers.cli.migrating:require_migrated")
run_scheduler = later("workers.process.scheduler:run")
serving_all = later("workers.cli.migrating:serving_all")

Processes = Annotated[
    int | None,
    typer.Option(
        "--processes", metavar="N", min=1, help="How many worker processes run. Without it, as DARKROOM_PROCESSES says."
    ),
]
Lanes = Annotated[
    int | None,
    typer.Option(
        "--lanes",
        metavar="N",
        min=1,
        help="How many jobs each process runs at once. Without it, as DARKROOM_LANES says.",
    ),
]
Queues = Annotated[
    str | None,
    typer.Option("--queues", metavar="A,B", help="Queues whose jobs are claimed. Without it, as DARKROOM_QUEUES says."),
]


def up(processes: Processes = None, lanes: Lanes = None, queues: Queues = None) -> int:
    """Run workers, a scheduler, the dashboard and the services.

    PostgreSQL, Redis and the storage are those of DATABASE_URL, REDIS_URL and STORAGE_URL; those that aren't set are
    embedded. Without --queues and DARKROOM_QUEUES its workers take jobs from all queues. Prints where the dashboard is
    and `ready` once everything runs; on a terminal also where the data is.
    Ctrl-C and SIGTERM stop it.
    """
    settings = open_settings(is_service=True)
    is_seen = sys.stdout.isatty()
    if is_seen:
        typer.echo("starting; Ctrl-C stops")
    code = DONE
    try:
        with metrics_served(settings, "worker", "scheduler") as serving, embedded_services(settings) as services:
            names = _prepare(settings, services, queues)
            if "queues" not in settings.model_fields_set:
                names = names or run_async(serving_all(settings, services))
            dashboard = dashboard_thread(settings, services, on_refused=_end)
            workers = _workers(settings, services, processes, lanes, names, serving)

            def announce() -> None:
                if dashboard.is_serving:
                    print_place(dashboard.address)
                if is_seen:
                    greet(
                        *(settings, services),
                        processes=processes or settings.processes,
                        lanes=lanes or settings.lanes,
                        queues=", ".join(names or settings.queues),
                    )
                _announce()

            _tell(serving)
            workers.start()
            dashboard.start()
            try:
                code = run_scheduler(settings, services, lambda: _announce_later(workers, dashboard, announce), serving)
            finally:
                dashboard.tell_stop()
                code = max(code, workers.stop())
                dashboard.join()
            if dashboard.refusal is not None:
                raise dashboard.refusal
    except KeyboardInterrupt:
        pass  # told to stop before everything worked
    return code


def worker(
    processes: Processes = None,
    lanes: Lanes = None,
    queues: Queues = None,
    *,
    drains: Annotated[bool, typer.Option("--drain", help="End when the jobs of the queues are done.")] = False,
) -> int:
    """Run worker processes.

    When a worker process dies, another one is started. Prints `ready` once every worker process can claim jobs.

    With --drain the workers end, with exit code 0, once no job of their queues runs, is due or will become due by
    itself, as before a retry. Jobs that only an operator can let go on are left waiting, and the log names them
    (drain_left_jobs): jobs that are paused, jobs that need a provider when all providers are stopped, jobs whose budget
    is spent and isn't one for a day, and jobs that the database refuses to start. Jobs that fail don't change the exit
    code; it is 1 if the workers can't work.
    """
    settings = open_settings(is_service=True)
    try:
        with metrics_served(settings, "worker") as serving, embedded_services(settings) as services:
            names = _prepare(settings, services, queues)
            workers = _workers(settings, services, processes, lanes, names, serving)
            _tell(serving)
            if not drains:
                return workers.run_forever(_announce)
            database = make_database(settings, services, most_connections=1)
            drain = Drain(settings, database, names or settings.queues)
            code = workers.run_forever(_announce, lambda: asyncio.run(drain.is_done()))
            drain.log_left()
            return code
    except KeyboardInterrupt:
        return DONE


def scheduler() -> int:
    """Run a scheduler.

    A scheduler sends wake-ups, takes jobs back from dead workers, queues jobs that have no queue row, and runs periodic
    tasks. Several schedulers may run at once. Prints `ready` once it runs.
    """
    settings = open_settings(is_service=True)
    try:
        with metrics_served(settings, "scheduler") as serving, embedded_services(settings) as services:
            _prepare(settings, services, None)
            _tell(serving)
            return int(run_scheduler(settings, services, _announce, serving))
    except KeyboardInterrupt:
        return DONE


def _workers(
    settings: Settings,
    services: Services,
    processes: int | None,
    lanes: int | None,
    queues: list[str] | None,
    serving: "Serving | None",
) -> WorkerProcesses:

    try:
        require_open_files(lanes or settings.lanes)
    except OpenFilesError as error:
        raise CommandUsageError(str(error)) from error
    # dramatiq gives its processes a pipe for stderr, so they can't detect that their lines end on a terminal
    os.environ.setdefault("LOG_FORMAT", default_format(sys.stderr))
    return WorkerProcesses(
        settings,
        services,
        processes=processes or settings.processes,
        lanes=lanes,
        queues=queues,
        on_refused=_end,
        serving=serving,
    )


def _end() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def _names(queues: str | None) -> list[str] | None:
    """Return the queues that an option names; None if it isn't given."""
    names = None if queues is None else [name.strip() for name in queues.split(",") if name.strip()]
    if names is not None and not names:
        raise CommandUsageError("--queues names no queue; give names, separated by commas")
    return names


def _prepare(settings: Settings, services: Services, queues: str | None) -> list[str] | None:
    """Migrate an embedded database; check that Darkroom may use any other, whose migration the processes await.

    Return the queues that the option names; None if it isn't given.
    """
    names = _names(queues)
    require_storage(settings, services)
    look = require_migrated if services.is_embedded else require_allowed
    run_async(look(settings, services))
    run_async(require_known_queues(settings, services, names or settings.queues))
    return names


def _tell(serving: "Serving | None") -> None:
    """Print where metrics are, since port 0 takes any."""
    if serving is not None:
        typer.echo(f"metrics at {serving.address.url}/metrics")


def _announce() -> None:
    typer.echo("ready")


def _announce_later(workers: WorkerProcesses, dashboard: Any, announce: Callable[[], None]) -> None:
    """Call `announce` once workers and dashboard are ready. The scheduler is ready already, and must not wait."""

    def wait() -> None:
        while not (workers.wait_ready(READY_LOOK_S) and dashboard.wait_ready(READY_LOOK_S)):
            pass
        if dashboard.refusal is None:
            announce()

    threading.Thread(target=wait, name="announce", daemon=True).start()
