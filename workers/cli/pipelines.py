"""Commands about pipelines: list, show, create, fork."""

import json
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from models.queue.pipelines import Pipeline
from workers.cli.failures import DONE, CommandUsageError
from workers.cli.opening import run_with_runtime
from workers.cli.output import print_json
from workers.cli.parameters import Json, Limit, PipelineId, Tier, TierName
from workers.cli.tables import column, note_count, print_fields, print_table
from workers.operations.actions import os_user
from workers.operations.ids import whole_id
from workers.operations.pipelines import count_pipelines, create_pipeline, fork_pipeline, get_pipeline, list_pipelines
from workers.operations.users import find_user
from workers.process.runtime import Runtime

MOST_CONFIG_CHARS = 1_000_000
Owner = Annotated[
    str | None,
    typer.Option(
        "--user", metavar="USER", help="The owner, given by e-mail or id. Without it, the pipeline belongs to nobody."
    ),
]


class Visibility(StrEnum):
    """Who may use a pipeline, as people type it."""

    PRIVATE = "private"
    PUBLIC = "public"
    LINK = "link"


def list_(
    user: Annotated[
        str | None,
        typer.Option("--user", metavar="USER", help="Only pipelines of this owner, given by e-mail or id."),
    ] = None,
    visibility: Annotated[
        Visibility | None, typer.Option("--visibility", case_sensitive=False, help="Only pipelines that are this.")
    ] = None,
    limit: Limit = 50,
    *,
    as_json: Json = False,
) -> int:
    """List pipelines, the newest first."""

    async def work(runtime: Runtime) -> int:
        user_id = None if user is None else (await find_user(runtime, user)).id
        seen_by = None if visibility is None else visibility.name
        found = await list_pipelines(runtime, user_id=user_id, visibility=seen_by, limit=limit)
        rows = [pipeline.columns for pipeline in found]
        if as_json:
            print_json(rows)
            return DONE
        columns = [
            column("id", "pipeline"),
            column("name"),
            column("visibility"),
            column("tier"),
            column("usageCount", "used", is_number=True),
            column("userId", "owner", is_wide=True),
            column("createdAt", "created", is_wide=True),
        ]
        print_table(rows, columns, empty="there are no pipelines; jobs without one use the system's default")
        await note_count(
            len(rows), limit, "pipelines", lambda: count_pipelines(runtime, user_id=user_id, visibility=seen_by)
        )
        return DONE

    return run_with_runtime(work, for_pictures=True)


def show(pipeline_id: PipelineId, *, as_json: Json = False) -> int:
    """Show a pipeline."""

    async def work(runtime: Runtime) -> int:
        whole = await whole_id(runtime, "pipeline", pipeline_id)
        _print_pipeline(await get_pipeline(runtime, whole), as_json=as_json)
        return DONE

    return run_with_runtime(work, for_pictures=True)


def create(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The name that users see.")],
    config: Annotated[
        str | None,
        typer.Option(
            "--config",
            metavar="FILE",
            help="A JSON file with the objects analysisConfig, autoCropConfig, promptConfig and generationConfig; - is "
            "standard input. An object that is missing has the default values.",
        ),
    ] = None,
    user: Owner = None,
    tier: Tier = TierName.TIER_1K,
    visibility: Annotated[
        Visibility | None,
        typer.Option(
            "--visibility",
            case_sensitive=False,
            help="Who may use it. Without it, private; public where no --user is given.",
        ),
    ] = None,
    description: Annotated[
        str | None, typer.Option("--description", metavar="TEXT", help="A description that users see.")
    ] = None,
    *,
    as_json: Json = False,
) -> int:
    """Make a pipeline.

    If its options break a rule, it isn't made, and the error names the rule.
    """
    configs = {} if config is None else _read_config(config)
    seen_by = visibility or (Visibility.PUBLIC if user is None else Visibility.PRIVATE)

    async def work(runtime: Runtime) -> int:
        user_id = None if user is None else (await find_user(runtime, user)).id
        made = await create_pipeline(
            runtime,
            name,
            configs,
            user_id=user_id,
            tier=tier.name,
            visibility=seen_by.name,
            description=description,
            actor=os_user(),
        )
        _print_pipeline(made, as_json=as_json)
        return DONE

    return run_with_runtime(work, for_pictures=True)


def fork(
    pipeline_id: PipelineId,
    user: Owner = None,
    name: Annotated[
        str | None,
        typer.Option("--name", metavar="NAME", help="The name of the copy. Without it, the name of the original."),
    ] = None,
    *,
    as_json: Json = False,
) -> int:
    """Copy a pipeline for another owner.

    The copy is private. Reference pictures of the first owner aren't copied.
    """

    async def work(runtime: Runtime) -> int:
        user_id = None if user is None else (await find_user(runtime, user)).id
        whole = await whole_id(runtime, "pipeline", pipeline_id)
        made = await fork_pipeline(runtime, whole, user_id=user_id, name=name, actor=os_user())
        _print_pipeline(made, as_json=as_json)
        return DONE

    return run_with_runtime(work, for_pictures=True)


def _read_config(path: str) -> dict[str, Any]:

    try:
        if path == "-":
            text = sys.stdin.read(MOST_CONFIG_CHARS + 1)
        else:
            with Path(path).open(encoding="utf-8") as file:
                text = file.read(MOST_CONFIG_CHARS + 1)
        if len(text) > MOST_CONFIG_CHARS:
            raise CommandUsageError(f"{path} has more than {MOST_CONFIG_CHARS:,} characters; that is no pipeline")
        found = json.loads(text)
    except OSError as error:
        raise CommandUsageError(
            f"{path} can't be read: {error.strerror}; give a file of JSON, or - for stdin"
        ) from error
    except (ValueError, RecursionError) as error:  # UnicodeDecodeError is one, too
        raise CommandUsageError(f"{path} holds no JSON: {error}") from error
    if not isinstance(found, dict):
        raise CommandUsageError(f"{path} holds no JSON object; give analysisConfig and the others as its keys")
    return found


def _print_pipeline(pipeline: Pipeline, *, as_json: bool) -> None:

    if as_json:
        print_json(pipeline.columns)
    else:
        print_fields(pipeline.columns)
