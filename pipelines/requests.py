"""Checks of what a job asks for, before anything is bought: its prompt, its aspect, and the keys that it names."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from config.job_terms import MAX_PROMPT_CHARS
from pipelines import keys
from pipelines.errors import InvalidOptionsError, NotYoursError

MAX_ASPECT_CHARS = 20


def check_prompt(prompt: str | None) -> None:
    """Check a user's prompt, if there is one.

    Raises:
        InvalidOptionsError: it is empty or too long.
    """
    if prompt is None:
        return
    if not prompt.strip():
        raise InvalidOptionsError("the prompt is empty")
    if len(prompt) > MAX_PROMPT_CHARS:
        raise InvalidOptionsError(f"the prompt has {len(prompt):,} characters; the limit is {MAX_PROMPT_CHARS:,}")


def aspect_of(text: str | None, where: str = "") -> float | None:
    """Parse `W:H`, as `submit_generation` stores it; None leaves the aspect to the provider.

    Args:
        text: the text.
        where: what a message begins with.

    Raises:
        InvalidOptionsError: the text has another form.
    """
    if text is None:
        return None
    width, _, height = text.partition(":")
    if len(text) > MAX_ASPECT_CHARS or not (width.isdecimal() and height.isdecimal() and int(width) and int(height)):
        raise InvalidOptionsError(f"{where}aspect {text[:20]!r} is no W:H, such as 16:9")
    return int(width) / int(height)


def check_input(key: str | None, url: str | None, user_id: str) -> None:
    """Check the picture that a job's own row names as its input.

    Raises:
        InvalidOptionsError: the row names no picture.
        NotYoursError: the picture's key is outside of the prefixes of the job's user.
    """
    if key is None and url is None:
        raise InvalidOptionsError("the job needs an input picture, and its row names neither a key nor a URL of one")
    if key is not None and not keys.is_users(key, user_id):
        raise NotYoursError(f"input key {key} is not yours")


def reference_keys(config: Mapping[str, Any]) -> Iterator[tuple[int, str]]:
    """Yield the number and the key of those of a pipeline's reference pictures that have a key.

    JSON of another form yields nothing.
    """
    prompt_config: Any = config.get("promptConfig")
    references = prompt_config.get("referenceImages") if isinstance(prompt_config, dict) else None
    for number, reference in enumerate(references if isinstance(references, list) else []):
        key = reference.get("r2Key") if isinstance(reference, dict) else None
        if isinstance(key, str):
            yield number, key


def check_references(config: Mapping[str, Any], owner_id: str | None) -> None:
    """Check the keys of a pipeline's reference pictures.

    Raises:
        NotYoursError: a key is outside of the prefixes of the pipeline's owner.
    """
    for number, key in reference_keys(config):
        if owner_id is None or not keys.is_users(key, owner_id):
            raise NotYoursError(
                f"promptConfig.referenceImages[{number}].r2Key: {key} is not under its pipeline owner's prefix"
            )


def check_own_references(config: Mapping[str, Any], folder: str) -> None:
    """Check the keys of the reference pictures that a job of another application names itself.

    Args:
        config: its choices as a pipeline's JSON columns have them.
        folder: the folder of its user's results, the only one that is known to be theirs.

    Raises:
        NotYoursError: a key is outside of it.
    """
    for number, key in reference_keys(config):
        if not keys.is_under(key, folder):
            raise NotYoursError(f"promptConfig.referenceImages[{number}].r2Key: {key} is not under {folder}/")


def ids_that_share(named: Iterable[tuple[str | None, str]]) -> list[str]:
    """Return the ids of users to whom a key that a job uses may belong as well, because another program wrote it.

    Nearly always there is no such user: one exists only if the key lies in a folder below the user's own, and another
    user's id is made of these folders' names.

    Args:
        named: keys, each with the id of the user to whom it should belong.
    """
    return sorted({one for key, owner_id in named if key is not None for one in keys.ids_below(key, owner_id)})


def require_unshared(user_ids: Iterable[str]) -> None:
    """Check that no user has one of the ids that share a job's keys.

    Raises:
        NotYoursError: there is such a user.
    """
    for user_id in user_ids:
        raise NotYoursError(f"a key of this job may be user {user_id}'s and not yours")
