"""A pipeline's JSON: the check of its rules, and the options that stages read from it."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any, Final

from config.pipeline_rules import RULES, Defect, Rule
from pipelines.errors import InvalidOptionsError


@dataclass(frozen=True, slots=True)
class AnalysisOptions:
    """Whether and how to analyze. A value of None leaves the choice to the provider."""

    is_enabled: bool = True
    model: str | None = None
    temperature: float | None = None


@dataclass(frozen=True, slots=True)
class AutoCropOptions:
    """Whether to crop, and what may be cropped.

    A crop that would remove less than `min_crop_ratio` of the area (0 to 1)
    isn't done.
    """

    is_enabled: bool = True
    min_crop_ratio: float = 0.05
    allow_black_bar_removal: bool = True
    allow_ui_element_crop: bool = True


@dataclass(frozen=True, slots=True)
class ReferenceImage:
    """A further picture for remote models, by key or by URL."""

    url: str | None
    r2_key: str | None
    description: str | None


@dataclass(frozen=True, slots=True)
class PromptOptions:
    """What the prompt asks for, for each defect.

    A defect that is overridden with False isn't treated. A defect overridden with True is treated even if the analysis
    didn't find it; so is a defect overridden with a text, which also says how to treat it.
    """

    defect_overrides: Mapping[Defect, bool | str] = field(default_factory=dict)
    custom_instructions: str | None = None
    skip_corrections: bool = False
    reference_images: tuple[ReferenceImage, ...] = ()


@dataclass(frozen=True, slots=True)
class GenerationOptions:
    """How the result is generated. `retry_attempts` is the most paid provider calls for one job, the first included."""

    model: str | None = None
    temperature: float | None = None
    retry_attempts: int = 3


@dataclass(frozen=True)
class PipelineOptions:
    """The options of a pipeline. Without arguments, they are the system's defaults."""

    analysis: AnalysisOptions = AnalysisOptions()
    auto_crop: AutoCropOptions = AutoCropOptions()
    prompt: PromptOptions = PromptOptions()
    generation: GenerationOptions = GenerationOptions()

    @cached_property
    def values(self) -> Mapping[str, Any]:
        """All options by name, as `asdict` returns them. Jobs without a pipeline share theirs."""
        return asdict(self)


_DEFAULTS: Final = PipelineOptions()


def resolve(pipeline: Mapping[str, Any] | None) -> PipelineOptions:
    """Return the options of a pipeline.

    Args:
        pipeline: `{"analysisConfig": ..., "autoCropConfig": ..., "promptConfig": ..., "generationConfig": ...}`; empty
            or None if neither the job nor its album names a pipeline, which gives the defaults.

    Raises:
        InvalidOptionsError: the JSON breaks a rule; the message has its path and the reason.
    """
    if not pipeline:
        return _DEFAULTS
    check(pipeline)
    return PipelineOptions(
        analysis=_analysis(pipeline.get("analysisConfig") or {}),
        auto_crop=_auto_crop(pipeline.get("autoCropConfig") or {}),
        prompt=_prompt(pipeline.get("promptConfig") or {}),
        generation=_generation(pipeline.get("generationConfig") or {}),
    )


def check(pipeline: Mapping[str, Any], named: Mapping[str, str] | None = None) -> None:
    """Check a pipeline's JSON against every rule.

    Args:
        pipeline: as for `resolve`.
        named: other names, for messages, of columns that the job has under such names.

    Raises:
        InvalidOptionsError: for the first rule that is broken, with its path and the reason.
    """
    for rule in RULES:
        for path, value in _places(pipeline, rule.path.split("."), ""):
            reason = None if value is None else _reason(rule, value)
            if reason is not None:
                column, dot, rest = path.partition(".")
                raise InvalidOptionsError(f"{(named or {}).get(column, column)}{dot}{rest}: {reason}")


def _places(value: Any, steps: list[str], path: str) -> Iterator[tuple[str, Any]]:
    """Yield each value to which a rule's path leads, with its concrete path; values that don't exist are skipped."""
    if not steps:
        yield path, value
        return
    step, rest = steps[0], steps[1:]
    if not isinstance(value, Mapping):
        return
    if step == "*":
        for key, inner in value.items():
            if key in _DEFECT_NAMES:
                yield from _places(inner, rest, f"{path}.{key}")
        return
    name = step.removesuffix("[]")
    inner, here = value.get(name), f"{path}.{name}".lstrip(".")
    if not step.endswith("[]"):
        yield from _places(inner, rest, here)
    elif isinstance(inner, list):
        for index, element in enumerate(inner):
            yield from _places(element, rest, f"{here}[{index}]")


_DEFECT_NAMES = frozenset(defect.value for defect in Defect)


def _reason(rule: Rule, value: Any) -> str | None:
    """Return the reason why a value breaks a rule; None if it doesn't."""
    found = _json_type(value)
    if found != rule.type and not (rule.type == "boolean or string" and found in {"boolean", "string"}):
        whole = rule.type == "integer" and found == "number" and float(value).is_integer()
        if not whole and not (rule.type == "number" and found == "integer"):
            return f"must be {_article(rule.type)}, found {_article(found)}"
    if isinstance(value, str):
        return "has a NUL character" if "\0" in value else _out_of_range(rule, len(value), " characters")
    if isinstance(value, list):
        return _out_of_range(rule, len(value), "")
    return None if isinstance(value, bool) or rule.least is None else _out_of_range(rule, value, "")


def _out_of_range(rule: Rule, found: float, unit: str) -> str | None:
    if rule.least is None or rule.most is None or rule.least <= found <= rule.most:
        return None
    least, most = f"{rule.least:g}", f"{int(rule.most):,}"
    if rule.type in {"number", "integer"}:
        return f"between {least} and {most}, found {found:g}"
    return f"at most {most}{unit}, found {found:,}" if found > rule.most else f"at least {least}{unit}, found {found}"


def _json_type(value: Any) -> str:
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int):
        return "integer"
    if isinstance(value, float):
        return "number" if math.isfinite(value) else "number that isn't finite"
    if isinstance(value, str):
        return "string"
    return "array" if isinstance(value, list) else "object" if isinstance(value, Mapping) else "value of no JSON type"


def _article(noun: str) -> str:
    return f"an {noun}" if noun[0] in "aeiou" else f"a {noun}"


def _given(config: Mapping[str, Any], **names: str) -> dict[str, Any]:
    """Return the values that a config contains, under our names; null and missing values are left to the defaults."""
    return {ours: config[theirs] for ours, theirs in names.items() if config.get(theirs) is not None}


def _analysis(config: Mapping[str, Any]) -> AnalysisOptions:
    return AnalysisOptions(**_given(config, is_enabled="enabled", model="model", temperature="temperature"))


def _auto_crop(config: Mapping[str, Any]) -> AutoCropOptions:
    return AutoCropOptions(
        **_given(
            config,
            is_enabled="enabled",
            min_crop_ratio="minCropRatio",
            allow_black_bar_removal="allowBlackBarRemoval",
            allow_ui_element_crop="allowUIElementCrop",
        )
    )


def _prompt(config: Mapping[str, Any]) -> PromptOptions:
    overrides = config.get("defectOverrides") or {}
    references = [reference for reference in config.get("referenceImages") or [] if reference is not None]
    return PromptOptions(
        defect_overrides={
            Defect(name): value
            for name, value in overrides.items()
            if name in _DEFECT_NAMES and value is not None and value != ""
        },
        custom_instructions=config.get("customInstructions") or None,
        skip_corrections=bool(config.get("skipCorrections")),
        reference_images=tuple(
            ReferenceImage(
                url=reference.get("url") or None,
                r2_key=reference.get("r2Key") or None,
                description=reference.get("description") or None,
            )
            for reference in references
        ),
    )


def _generation(config: Mapping[str, Any]) -> GenerationOptions:
    given = _given(config, model="model", temperature="temperature", retry_attempts="retryAttempts")
    if "retry_attempts" in given:
        given["retry_attempts"] = int(given["retry_attempts"])
    return GenerationOptions(**given)
