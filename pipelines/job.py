"""Values that stages work with: the job, and the output of each stage. No database rows."""

from collections.abc import Mapping
from dataclasses import field, fields
from typing import Any, Final, Self

from config.tiers import Tier
from config.values import value
from pipelines.corrections import Corrections
from pipelines.endpoint import EndpointRequest
from pipelines.imaging.geometry import PixelBox
from pipelines.options import PipelineOptions
from pipelines.prompts import Purpose

OWN_APPLICATION: Final = "pictures"
"""The application whose job types have no name before them."""


@value
class Job:
    """A job as its stages see it.

    `input_key` is the original's key, `input_url` its URL if it has no key, and
    `source_key` the key of a blend's second picture. `image_id` names the
    original's row and becomes part of the result's key; it is None for a job
    whose table has no picture rows. `prompt` is the user's own, if there is one. `aspect` is the
    width / height that a picture made from words should have, or that the result of another application's job should
    have. `call` is what a job asks of an HTTP endpoint. `purpose` is what the job's type asks of a provider.
    `more_keys` are the keys of the pictures that the provider gets after the first one. `count` is how many pictures
    are to be made. `choices_path` is what the path of the model and the temperature that the job names begins with, in
    messages.
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
    call: EndpointRequest | None = None
    more_keys: tuple[str, ...] = ()
    count: int = 1
    choices_path: str = "generationConfig"
    purpose: Purpose = field(kw_only=True)

    @property
    def application(self) -> str:
        """The application whose job it is: what stands before the last dot of its type."""
        return self.job_type.rpartition(".")[0] or OWN_APPLICATION

    @property
    def is_reshaped(self) -> bool:
        """Whether the result has an aspect of its own, and not that of the picture that the job works on."""
        return self.aspect is not None and self.purpose is not Purpose.GENERATE


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
    pipeline's owner wrote. `number` is which of the job's pictures is to be made: it tells calls apart that ask for the
    same. `is_reshaped` is true if the result must not have the aspect of the first picture.
    """

    text: str
    corrections: Corrections
    purpose: Purpose = Purpose.ENHANCE
    model: str | None = None
    temperature: float | None = None
    words: str = ""
    number: int = 1
    is_reshaped: bool = False

    @classmethod
    def of_job(cls, text: str, corrections: Corrections, job: Job) -> Self:
        """Build the prompt of a job from its text and its corrections."""
        options = job.options.generation
        words = job.prompt or job.options.prompt.custom_instructions or ""
        return cls(
            *(text, corrections, job.purpose, options.model, options.temperature, words), is_reshaped=job.is_reshaped
        )


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
