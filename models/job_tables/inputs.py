"""What a claimed job is to work on, and what its finished stages left: what the rows behind a job are read into."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture's row: its object's key, and whether the job's user may use it (theirs, or public)."""

    id: str
    key: str
    is_allowed: bool


@dataclass(frozen=True, slots=True)
class Pipeline:
    """The pipeline that counts for a job.

    `config` has the four JSON columns by name. `is_albums` when the job's row
    names none and its album does.
    """

    id: str
    owner_id: str | None
    is_allowed: bool
    config: Mapping[str, Any]
    is_shared_by_link: bool = False
    is_albums: bool = False


@dataclass(frozen=True, slots=True)
class JobInputs:
    """The rows behind one job.

    `picture` is None for jobs without a picture row, `source` for those that blend nothing. `lost` says which
    of its inputs is deleted. `checkpoints` holds the job's own columns that finished stages, or another program,
    wrote; `changes_input` when it can't do without `input_key` or `input_url`; `aspect` (`W:H`), `model` and
    `is_redone` (a completed job once more) are what the queue keeps for a job beside its row.
    `api_key_fault` says why the API key that the row names can't be its user's to use.
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
