"""The commands generate and modify: make or change a picture according to a prompt."""

import re
from pathlib import Path
from typing import Annotated, Final

import typer

from workers.cli.failures import CommandUsageError
from workers.cli.lazy import later
from workers.cli.parameters import At, Json, NoWait, Out, Payer, Tier, TierName, beginning
from workers.cli.results import OUT_WITHOUT_WAIT, require_writable

Request = later("workers.cli.generating:Request")
run = later("workers.cli.generating:run")

MAX_ASPECT: Final = 8
"""The largest ratio of the long side to the short side that a model makes."""

_ASPECT: Final = re.compile(r"([1-9]\d{0,3}):([1-9]\d{0,3})")

Prompt = Annotated[str, typer.Argument(metavar="PROMPT", help="What the picture shall show, in words.")]
Change = Annotated[str, typer.Argument(metavar="PROMPT", help="How the picture is changed, in words.")]


def generate(
    prompt: Prompt,
    tier: Tier = TierName.TIER_1K,
    aspect: Annotated[
        str, typer.Option("--aspect", metavar="W:H", help=f"Width to height, from 1:{MAX_ASPECT} to {MAX_ASPECT}:1.")
    ] = "1:1",
    out: Out = None,
    user: Payer = None,
    at: At = None,
    *,
    no_wait: NoWait = False,
    as_json: Json = False,
) -> int:
    """Make a picture from words, and wait for it."""
    sides = _ASPECT.fullmatch(aspect)
    if sides is None or not 1 / MAX_ASPECT <= int(sides[1]) / int(sides[2]) <= MAX_ASPECT:
        raise CommandUsageError(f"--aspect {aspect} is no W:H between 1:{MAX_ASPECT} and {MAX_ASPECT}:1, such as 16:9")
    return _run(prompt, tier, None, aspect, out, user, at, no_wait=no_wait, as_json=as_json)


def modify(
    path: Annotated[str, typer.Argument(metavar="PATH", help="The file of a picture: JPEG, PNG, WebP or GIF.")],
    prompt: Change,
    tier: Tier = TierName.TIER_1K,
    out: Out = None,
    user: Payer = None,
    at: At = None,
    *,
    no_wait: NoWait = False,
    as_json: Json = False,
) -> int:
    """Change a picture as words say, and wait for it."""
    return _run(prompt, tier, Path(path), None, out, user, at, no_wait=no_wait, as_json=as_json)


def _run(
    prompt: str,
    tier: TierName,
    path: Path | None,
    aspect: str | None,
    out: str | None,
    user: str | None,
    at: str | None,
    *,
    no_wait: bool,
    as_json: bool,
) -> int:
    if not prompt.strip():
        raise CommandUsageError("the prompt is empty; say what is asked for")
    if out is not None and no_wait:
        raise CommandUsageError(OUT_WITHOUT_WAIT)
    if out is not None:
        require_writable(Path(out))
    run_at = None if at is None else beginning(at)
    folder = None if out is None else Path(out)
    request = Request(prompt, tier.name, path, aspect, folder, user, run_at, not no_wait, as_json)
    return int(run(request))
