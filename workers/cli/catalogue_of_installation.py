"""The groups of commands about a database, the applications that are drained from it, and who may use the dashboard."""

from typing import Final

from workers.cli.lazy import Command, Group

DATABASE: Final = Group(
    "db",
    "Upgrade, check and open the database.",
    (
        Command(
            "upgrade",
            "Bring the database to this version.",
            "workers.cli.database:upgrade",
            (
                "darkroom db upgrade",
                "TOKENS=producer darkroom db upgrade --grant webapp",
                "darkroom db upgrade --revoke webapp",
            ),
        ),
        Command(
            "check",
            "Check the database, and print what is wrong with it.",
            "workers.cli.database:check",
            ("darkroom db check && darkroom worker",),
        ),
        Command(
            "url",
            "Print the database's URL, with its password.",
            "workers.cli.connecting:url",
            ('psql "$(darkroom db url)"',),
        ),
        Command(
            "psql",
            "Open the database in psql.",
            "workers.cli.connecting:psql",
            ("darkroom db psql", "darkroom db psql -- --list"),
        ),
        Command(
            "sql",
            "Print the SQL of the functions, views and triggers that db upgrade makes.",
            "workers.cli.database:sql",
            ("darkroom db sql > darkroom.sql",),
        ),
    ),
)

APPLICATION: Final = Group(
    "application",
    "Show and check what describes the applications that are drained.",
    (
        Command(
            "show",
            "Print the applications that are recorded.",
            "workers.cli.application:show",
            ("darkroom application show",),
        ),
        Command(
            "check",
            "Try a file that describes an application against the database.",
            "workers.cli.application:check",
            ("darkroom application check frames.toml", "darkroom application check frames.toml@shop"),
        ),
        Command(
            "sql",
            "Print the SQL of what db upgrade makes for the recorded applications.",
            "workers.cli.application:sql",
            ("darkroom application sql --table orders",),
        ),
    ),
)

OPERATORS: Final = Group(
    "operators",
    "Add, list and remove people who may sign in to the dashboard.",
    (
        Command(
            "add",
            "Let a person sign in to the dashboard.",
            "workers.cli.operators:add",
            (
                "darkroom operators add ada --role operator",
                "darkroom operators add wall --role viewer --password-stdin < wall.password",
            ),
        ),
        Command(
            "list",
            "List who may sign in to the dashboard, and who is signed in.",
            "workers.cli.operators:list_",
            ("darkroom operators list",),
        ),
        Command(
            "remove",
            "Remove an operator; open sessions end at once.",
            "workers.cli.operators:remove",
            ("darkroom operators remove ada --reason 'left'",),
        ),
    ),
)
