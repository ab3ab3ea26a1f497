"""Values that stages work with: the job, and the output of each stage. No database rows."""

from collections.abc import Mapping
from dataclasses import field, fields
from typing import Any, Final, Self

from config.tiers import Tier
from config.values import value
from pipelines.corrections import Corrections
from pipelines.imaging.geometry import PixelBox
from pipelines.options import PipelineOptions
from pipelines.prompts import Purpose


@value
class Job:
    """A job as its stages see it.

    `input_key` is the original's key, `input_url` its URL if it has no key, and
    `source_key` the key of a blend's second picture. `image_id` names the
    original's row and becomes part of the result's key; it is None for a job
    whose table has no picture rows. `prompt` is the user's own, if there is one. `aspect` is the
    width / height that a picture made from words should have. `purpose` is what
    the job's type asks of a provider.
    """

    id: str
    job_type: str
    user_id: str
    tier: Tier
    input_key: str | None
    image_id: str | None
    source_key: str | None
    options: PipelineOptions
    prompt: str | None = None
    input_url: str | None = None
    aspect: float | None = None
    purpose: Purpose = field(kw_only=True)


_EDGES = ("x", "y", "w", "h")


@value
class Crop:
    """The output of the crop stage: the part to keep, in pixels of the oriented original; None keeps all of it."""

    was_cropped: bool
    box: PixelBox | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the crop as JSON; `box` has x, y, w and h, or is None if nothing was cropped."""
        box = self.box
        edges = None if box is None else {"x": box.x, "y": box.y, "w": box.width, "h": box.height}
        return {"was_cropped": self.was_cropped, "box": edges}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Build a crop from the JSON of `to_json`.

        Raises:
            ValueError: `box` isn't an object of four whole numbers that make a box.
        """
        box = value["box"]
        if not value["was_cropped"] or box is None:
            return cls(was_cropped=False)
        edges = [box.get(name) for name in _EDGES] if isinstance(box, Mapping) else []
        whole = [edge for edge in edges if isinstance(edge, int) and not isinstance(edge, bool)]
        if len(whole) != len(_EDGES):
            raise ValueError("the box of a crop isn't an object of whole numbers x, y, w and h")
        return cls(was_cropped=True, box=PixelBox(*whole))


@value
class PromptText:
    """The output of the prompt stage: the text for remote models.

    The corrections for the local engine aren't part of it: they are computed from analysis and options.
    """

    text: str

    def to_json(self) -> dict[str, Any]:
        """Return the prompt as JSON."""
        return {"text": self.text}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Build a prompt from the JSON of `to_json`.

        Raises:
            TypeError: the value isn't text.
        """
        if not isinstance(value["text"], str):
            raise TypeError("the text of a prompt isn't text")
        return cls(value["text"])


@value
class Prompt:
    """What a provider is to do, as a text for remote models and as corrections for the local engine.

    `model` and `temperature` are a pipeline's choices for remote models; `words` are the texts that the user and the
    pipeline's owner wrote.
    """

    text: str
    corrections: Corrections
    purpose: Purpose = Purpose.ENHANCE
    model: str | None = None
    temperature: float | None = None
    words: str = ""

    @classmethod
    def of_job(cls, text: str, corrections: Corrections, job: Job) -> Self:
        """Build the prompt of a job from its text and its corrections."""
        options = job.options.generation
        words = job.prompt or job.options.prompt.custom_instructions or ""
        return cls(text, corrections, job.purpose, options.model, options.temperature, words)


@value
class Generated:
    """The finished picture in storage: what is written to the row of a COMPLETED job.

    `treatments` says for people what was done ("denoised sigma 14.8").
    `input_hash` is the hash of all that the picture depends on: 64 hex digits.
    """

    key: str
    url: str
    width_px: int
    height_px: int
    size_bytes: int
    sha256: str
    model: str
    temperature: float | None = None
    treatments: tuple[str, ...] = ()
    input_hash: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return the picture as JSON."""
        return {name: getattr(self, name) for name in _OF_A_PICTURE} | {"treatments": list(self.treatments)}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Build the picture from the JSON of `to_json`."""
        return cls(**{**value, "treatments": tuple(value["treatments"])})


_OF_A_PICTURE: Final = tuple(one.name for one in fields(Generated))
