"""The inputs of a claimed job, as read from the rows behind it."""

from collections.abc import Mapping
from typing import Any

from config.values import value


@value
class Picture:
    """A picture's row: its object's key, and whether the job's user may use it (it is their own, or public)."""

    id: str
    key: str
    is_allowed: bool


@value
class Pipeline:
    """The pipeline that a job uses.

    `config` has the four JSON columns by name. `is_albums` is true when the job's row
    names no pipeline and its album does.
    """

    id: str
    owner_id: str | None
    is_allowed: bool
    config: Mapping[str, Any]
    is_shared_by_link: bool = False
    is_albums: bool = False


@value
class JobInputs:
    """The rows behind one job.

    `picture` is None for jobs without a picture row, and `source` for jobs that blend nothing. `lost` names an input
    that is deleted. `checkpoints` holds the job's own columns that finished stages, or another program, wrote.
    `changes_input` is true when the job needs `input_key` or `input_url`. `aspect` (`W:H`), `model` and `is_redone`
    (a completed job is done again) are kept in the queue, since the job's row has no columns for them.
    `api_key_fault` says why the API key that the row names can't be used by the job's user. `pictures` are the keys of
    the pictures that a job of another application than `pictures` works on, in order, which are its user's to use.
    `count` is how many pictures it makes. `config` has choices of its own as a pipeline's JSON columns have them, and
    `fault` says what is wrong with the row's, beginning with its path. `parameters` are choices in one object, as the
    row has it, which isn't checked yet: `pipelines.parameters` says which keys it may have. `call` has the `url` and
    the `body`, any JSON, of what a job asks of an HTTP endpoint.
    """

    tier: str
    picture: Picture | None
    source: Picture | None
    pipeline: Pipeline | None
    checkpoints: Mapping[str, Any]
    lost: str | None = None
    prompt: str | None = None
    changes_input: bool = False
    input_key: str | None = None
    input_url: str | None = None
    aspect: str | None = None
    model: str | None = None
    is_redone: bool = False
    api_key_fault: str | None = None
    pictures: tuple[str, ...] = ()
    count: int = 1
    config: Mapping[str, Any] | None = None
    parameters: Any = None
    fault: str | None = None
    call: Mapping[str, Any] | None = None
