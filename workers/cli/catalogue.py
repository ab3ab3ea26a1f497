"""The list of commands: the name of each, its line in the help, its function, and examples.

A new command needs an entry here.
"""

from typing import Final

from workers.cli.catalogue_of_installation import APPLICATION, DATABASE, OPERATORS
from workers.cli.lazy import Command, Group, Sections

_JOBS: Final = Group(
    "jobs",
    "List, follow, save, explain, cancel and retry jobs.",
    (
        Command(
            "list",
            "List jobs, the newest change first.",
            "workers.cli.jobs:list_",
            ("darkroom jobs list --status failed --since 2h", "darkroom jobs list --user ada@example.com --json"),
        ),
        Command("show", "Show all that is known about a job.", "workers.cli.jobs:show", ("darkroom jobs show cm3k9",)),
        Command(
            "watch",
            "Follow jobs until they end.",
            "workers.cli.watching:watch",
            ("darkroom jobs watch", "darkroom jobs watch cm3k9 && echo done"),
        ),
        Command(
            "save",
            "Fetch the results of finished jobs.",
            "workers.cli.saving:save",
            (
                "darkroom jobs save cm3k9 cm3ka --out enhanced",
                "darkroom jobs save --user ada@example.com --since 2h --out enhanced",
            ),
        ),
        Command(
            "explain",
            "Print what happened to a job, in order, and why it waits now.",
            "workers.cli.explaining:explain",
            ("darkroom jobs explain cm3k9",),
        ),
        Command(
            "cancel",
            "Cancel jobs that haven't ended.",
            "workers.cli.jobs:cancel",
            ("darkroom jobs cancel cm3k9 --reason 'asked by the user'",),
        ),
        Command(
            "run-now",
            "Make waiting jobs due at once.",
            "workers.cli.due_times:run_now",
            ("darkroom jobs run-now cm3k9",),
        ),
        Command(
            "reschedule",
            "Make waiting jobs due at a time.",
            "workers.cli.due_times:reschedule",
            (
                "darkroom jobs reschedule cm3k9 --at +2h",
                "darkroom jobs reschedule cm3k9 --at 2026-03-01T09:00:00+01:00",
            ),
        ),
        Command(
            "retry",
            "Submit finished jobs once more, as new ones.",
            "workers.cli.retrying:retry",
            ("darkroom jobs retry cm3k9", "darkroom jobs retry --error 'rate limited' --since 2h --dry-run"),
        ),
    ),
)
_ALBUM: Final = Group(
    "album",
    "Enhance whole albums.",
    (
        Command(
            "enhance",
            "Enhance the pictures of an album that aren't done at a tier, and wait for them.",
            "workers.cli.album:enhance",
            ("darkroom album enhance cm3k9 --tier 2k", "darkroom album enhance cm3k9 --redo --no-wait"),
        ),
    ),
)
_BATCHES: Final = Group(
    "batches",
    "List, show, follow, cancel and retry albums that were submitted together.",
    (
        Command(
            "list",
            "List batches, the newest first.",
            "workers.cli.batch_commands:list_",
            ("darkroom batches list --user ada@example.com",),
        ),
        Command(
            "show",
            "Show how the jobs of a batch are, and its jobs.",
            "workers.cli.batch_commands:show",
            ("darkroom batches show 6f1c --json",),
        ),
        Command(
            "watch",
            "Follow a batch until all of its jobs are over.",
            "workers.cli.batch_commands:watch",
            ("darkroom batches watch 6f1c && echo done",),
        ),
        Command(
            "cancel",
            "Cancel the unfinished jobs of a batch.",
            "workers.cli.batch_commands:cancel",
            ("darkroom batches cancel 6f1c --reason 'asked by the user'",),
        ),
        Command(
            "retry",
            "Submit the jobs of a batch that ended without success again.",
            "workers.cli.batch_commands:retry",
            ("darkroom batches retry 6f1c",),
        ),
    ),
)
_QUEUE: Final = Group(
    "queue",
    "Show the queue and the workers; pause, resume, caps and weights.",
    (
        Command("stats", "Count jobs by queue and status.", "workers.cli.queues:stats", ("darkroom queue stats",)),
        Command(
            "pause",
            "Stop claiming jobs of a queue, type or tier, or calling a provider.",
            "workers.cli.queues:pause",
            ("darkroom queue pause --tier 4k --reason 'bill'", "darkroom queue pause --provider gemini"),
        ),
        Command(
            "resume",
            "End pauses, so that jobs are claimed or providers called again.",
            "workers.cli.queues:resume",
            ("darkroom queue resume --tier 4k", "darkroom queue resume --provider gemini"),
        ),
        Command(
            "caps",
            "Set or show how many jobs of a user may run at once.",
            "workers.cli.queues:caps",
            ("darkroom queue caps FREE=1,BASIC=3", "darkroom queue caps none"),
        ),
        Command(
            "weights",
            "Set or show the shares of users who wait at the same time.",
            "workers.cli.queues:weights",
            ("darkroom queue weights FREE=1,PREMIUM=8", "darkroom queue weights --head-start 60"),
        ),
    ),
)
_PIPELINES: Final = Group(
    "pipelines",
    "List, show, make and copy pipelines: how pictures are treated.",
    (
        Command(
            "list",
            "List pipelines, the newest first.",
            "workers.cli.pipelines:list_",
            ("darkroom pipelines list --visibility public",),
        ),
        Command("show", "Show a pipeline.", "workers.cli.pipelines:show", ("darkroom pipelines show cm3k9",)),
        Command(
            "create",
            "Make a pipeline.",
            "workers.cli.pipelines:create",
            ("darkroom pipelines create 'Warm portraits' --config warm.json",),
        ),
        Command(
            "fork",
            "Copy a pipeline for another owner.",
            "workers.cli.pipelines:fork",
            ("darkroom pipelines fork cm3k9 --user ada@example.com --name Mine",),
        ),
    ),
)
_USERS: Final = Group(
    "users",
    "List, show and make users.",
    (
        Command(
            "list", "List users, the newest first.", "workers.cli.users:list_", ("darkroom users list --limit 10",)
        ),
        Command(
            "show",
            "Show a user, the balance, and how many jobs the user has.",
            "workers.cli.users:show",
            ("darkroom users show ada@example.com",),
        ),
        Command(
            "create",
            "Make a user.",
            "workers.cli.users:create",
            ("darkroom users create ada@example.com --tokens 100",),
        ),
    ),
)
_TOKENS: Final = Group(
    "tokens",
    "Show, change and check what users pay with.",
    (
        Command(
            "balance",
            "Show the balance of a user, or of all users.",
            "workers.cli.tokens:balance",
            ("darkroom tokens balance", "darkroom tokens balance ada@example.com"),
        ),
        Command(
            "grant",
            "Add tokens to a balance.",
            "workers.cli.tokens:grant",
            (
                "darkroom tokens grant ada@example.com 50 --reason 'sorry'",
                "darkroom tokens grant ada@example.com -- -5",
            ),
        ),
        Command(
            "history",
            "Show the ledger of a user, newest row first.",
            "workers.cli.tokens:history",
            ("darkroom tokens history ada@example.com",),
        ),
        Command(
            "audit",
            "Compare balances, ledger or entries, and jobs of all users.",
            "workers.cli.tokens:audit",
            ("darkroom tokens audit", "darkroom tokens audit --repair --reason 'backup restored'"),
        ),
    ),
)
_SCHEDULE: Final = Group(
    "schedule",
    "List, run, pause and resume periodic tasks.",
    (
        Command(
            "list",
            "Show when each periodic task runs, and what its last run did.",
            "workers.cli.schedule:list_",
            ("darkroom schedule list",),
        ),
        Command(
            "run",
            "Run a periodic task now.",
            "workers.cli.schedule:run",
            ("darkroom schedule run collect-orphans --dry-run",),
        ),
        Command(
            "pause",
            "Stop running a periodic task until it is resumed.",
            "workers.cli.schedule:pause",
            ("darkroom schedule pause collect-orphans",),
        ),
        Command(
            "resume",
            "Let a paused periodic task run again.",
            "workers.cli.schedule:resume",
            ("darkroom schedule resume collect-orphans",),
        ),
    ),
)
STATUS: Final = "status"
"""The command that `darkroom` without arguments runs."""

VERSION: Final = "workers.cli.version:show"

COMMANDS: Final[Sections] = {
    "Pictures": (
        Command(
            "demo",
            "Enhance sample photographs by services and workers that the demo starts itself.",
            "workers.demo.command:demo",
            ("darkroom demo", "darkroom demo --out /tmp/demo"),
        ),
        Command(
            "enhance",
            "Enhance pictures, and wait for the results.",
            "workers.cli.enhance:enhance",
            (
                "darkroom enhance holiday.jpg --out enhanced",
                "darkroom enhance *.jpg --tier 4k --user ada@example.com --no-wait",
            ),
        ),
        Command(
            "generate",
            "Make a picture from words, and wait for it.",
            "workers.cli.generate:generate",
            ("darkroom generate 'a lighthouse at dawn' --aspect 16:9 --out pictures",),
        ),
        Command(
            "modify",
            "Change a picture as words say, and wait for it.",
            "workers.cli.generate:modify",
            ("darkroom modify holiday.jpg 'make it evening' --out pictures",),
        ),
        _ALBUM,
    ),
    "Jobs, users and money": (
        Command(
            STATUS,
            "Show what runs and what waits, and the next commands.",
            "workers.cli.status:status",
            ("darkroom status",),
        ),
        _JOBS,
        _BATCHES,
        _QUEUE,
        _PIPELINES,
        _USERS,
        _TOKENS,
        Command(
            "costs",
            "Show what provider calls cost; --stop and --resume turn the kill switch.",
            "workers.cli.costs:costs",
            (
                "darkroom costs --by day --days 7",
                "darkroom costs --stop --reason 'over budget'",
                "darkroom costs --open",
            ),
        ),
    ),
    "Processes": (
        Command(
            "up",
            "Run workers, a scheduler, the dashboard and the services.",
            "workers.cli.processes:up",
            ("darkroom up", "darkroom up --processes 4"),
        ),
        Command(
            "worker",
            "Run worker processes.",
            "workers.cli.processes:worker",
            ("darkroom worker --processes 4", "darkroom worker --drain"),
        ),
        Command("scheduler", "Run a scheduler.", "workers.cli.processes:scheduler", ("darkroom scheduler",)),
        Command(
            "dashboard",
            "Run the dashboard.",
            "workers.cli.dashboard:dashboard",
            ("darkroom dashboard", "darkroom dashboard --address 127.0.0.1:0"),
        ),
        Command(
            "healthcheck",
            "Ask a process whether it is ready.",
            "workers.cli.healthcheck:healthcheck",
            ("darkroom healthcheck", "darkroom healthcheck http://127.0.0.1:9100"),
        ),
        Command(
            "plan", "Plan for a load.", "workers.cli.planning:plan", ("darkroom plan --jobs-per-day 9000 --tier 2k",)
        ),
        _SCHEDULE,
    ),
    "Installation": (
        DATABASE,
        APPLICATION,
        OPERATORS,
        Command(
            "completion",
            "Print a script that makes a shell complete commands and options.",
            "workers.cli.completion:completion",
            ('eval "$(darkroom completion bash)"', "darkroom completion zsh --install"),
        ),
        Command(
            "config",
            "Show every setting, its value and its meaning.",
            "workers.cli.settings:config",
            ("darkroom config", "darkroom config --json"),
        ),
        Command(
            "doctor",
            "Check the whole installation, and say what to do about each finding.",
            "workers.cli.doctor:doctor",
            ("darkroom doctor", "darkroom doctor --all"),
        ),
    ),
}
