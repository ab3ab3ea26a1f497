"""What stages know of a job, and what each of them gives: values, no rows."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

from config.tiers import Tier
from pipelines.analysis import Analysis
from pipelines.imaging.geometry import PixelBox
from pipelines.options import PipelineOptions
from pipelines.prompts import Corrections, Purpose, corrections


@dataclass(frozen=True, slots=True)
class Job:
    """One job as its stages see it.

    `input_key` is the original's key, `input_url` where it lies if it has none,
    `source_key` a blend's second picture.
    `image_id` names the original's row in the keys of results; jobs of
    `mcp_generation_jobs` have none, and carry the user's `prompt`; `aspect`
    is the width / height that a picture from text is to have.
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

    @property
    def purpose(self) -> Purpose:
        """What the job's type asks of a provider."""
        return Purpose(self.job_type)


_EDGES = ("x", "y", "w", "h")


@dataclass(frozen=True, slots=True)
class Crop:
    """The crop stage's output: the part to keep, in pixels of the oriented original; None keeps all."""

    was_cropped: bool
    box: PixelBox | None = None

    def to_json(self) -> dict[str, int] | None:
        """Return the row's `cropDimensions`, None if nothing was cropped."""
        if self.box is None:
            return None
        return {"x": self.box.x, "y": self.box.y, "w": self.box.width, "h": self.box.height}

    @classmethod
    def from_json(cls, value: object, *, was_cropped: bool) -> Self:
        """Rebuild it from `cropDimensions` and `wasCropped`.

        Raises:
            ValueError: it isn't an object of four whole numbers that make a box.
        """
        if not was_cropped or value is None:
            return cls(was_cropped=False)
        edges = [value.get(name) for name in _EDGES] if isinstance(value, Mapping) else []
        whole = [edge for edge in edges if isinstance(edge, int) and not isinstance(edge, bool)]
        if len(whole) != len(_EDGES):
            raise ValueError("cropDimensions isn't an object of whole numbers x, y, w and h")
        return cls(was_cropped=True, box=PixelBox(*whole))


@dataclass(frozen=True, slots=True)
class Prompt:
    """What is asked of a provider: text for remote models, corrections for the local engine.

    `model` and `temperature` are a pipeline's wishes for remote models; `words` are the user's own, and the owner's.
    """

    text: str
    corrections: Corrections
    purpose: Purpose = Purpose.ENHANCE
    model: str | None = None
    temperature: float | None = None
    words: str = ""

    @classmethod
    def of_job(cls, text: str, corrections: Corrections, job: Job) -> Self:
        """Make the prompt of a job from its text and what is to be treated."""
        options = job.options.generation
        words = job.prompt or job.options.prompt.custom_instructions or ""
        return cls(text, corrections, job.purpose, options.model, options.temperature, words)

    def to_json(self) -> str:
        """Return the row's `geminiPrompt`: the rest follows from analysis and options."""
        return self.text

    @classmethod
    def from_json(cls, text: str, *, job: Job, analysis: Analysis | None) -> Self:
        """Rebuild it from `geminiPrompt`, the job, and the analysis that the row holds (None if it was off)."""
        return cls.of_job(text, corrections(analysis, job.options.prompt), job)


@dataclass(frozen=True, slots=True)
class Generated:
    """The finished picture in storage: what COMPLETED writes to the row.

    `treatments` says what was done, for people to read ("denoised sigma 14.8").
    `input_hash` says what it was made of: 64 hex digits.
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
        """Return it as JSON, for the history of stages."""
        return asdict(self) | {"treatments": list(self.treatments)}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Rebuild it from `to_json`."""
        return cls(**{**value, "treatments": tuple(value["treatments"])})


@dataclass(frozen=True, slots=True)
class Outputs:
    """Checkpoints of the stages that have finished; None for those that haven't, or were switched off.

    `generated` is a picture that an earlier attempt bought and stored, and lost its claim before it could say so.
    """

    analysis: Analysis | None = None
    crop: Crop | None = None
    prompt: Prompt | None = None
    generated: Generated | None = None
