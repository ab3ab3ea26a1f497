"""Prompts: structured corrections, and the text that describes them to a remote model.

Every sentence is a fixed phrase of ours. An analysis selects phrases and is
never copied into the text; what a pipeline's owner wrote is quoted as data.
"""

import json
from collections.abc import Sequence
from enum import StrEnum

from config.pipeline_rules import Defect
from pipelines.analysis import Analysis
from pipelines.corrections import NO_CORRECTIONS, Corrections
from pipelines.options import PipelineOptions, PromptOptions


class Purpose(StrEnum):
    """What a provider is asked for; several job types may have the same purpose."""

    ENHANCE = "enhance"
    BLEND = "blend"
    GENERATE = "generate"
    MODIFY = "modify"


PHRASES = {
    Defect.IS_DARK: "Brighten the picture to a natural exposure, and keep highlights as they are.",
    Defect.IS_BLURRY: "Restore sharpness without halos.",
    Defect.HAS_NOISE: "Remove noise, and keep fine texture.",
    Defect.HAS_VHS_ARTIFACTS: "Remove the artifacts of an analogue recording: colour bleeding, scan lines, tape noise.",
    Defect.IS_LOW_RESOLUTION: "Restore detail that a higher resolution would show, and invent none.",
    Defect.IS_OVEREXPOSED: "Bring overexposed parts back to a natural exposure.",
    Defect.HAS_COLOR_CAST: "Remove the colour cast, and keep skin tones natural.",
}

_FIRST = {
    Purpose.ENHANCE: "Enhance the photograph.",
    Purpose.BLEND: "Enhance the first photograph, and give it the palette and light of the second picture.",
    Purpose.MODIFY: "Change the picture as the quoted request says.",
    Purpose.GENERATE: "Make the picture that the quoted request describes.",
}

_KEEP = "Keep subject, composition, framing and identity of people exactly as they are. Return only the picture."


def corrections(analysis: Analysis | None, options: PromptOptions) -> Corrections:
    """Return the defects to treat: those that the analysis found, changed by the overrides of the pipeline.

    The result depends only on the arguments, so a resumed job gets the same result from its stored analysis.
    """
    if options.skip_corrections:
        return NO_CORRECTIONS
    forced = {defect for defect, override in options.defect_overrides.items() if override is not False}
    spared = {defect for defect, override in options.defect_overrides.items() if override is False}
    found = frozenset(Defect) if analysis is None else analysis.defects.found()
    return Corrections(frozenset((found | forced) - spared), frozenset(forced))


def prompt_text(
    purpose: Purpose,
    analysis: Analysis | None,
    options: PipelineOptions,
    request: str | None = None,
    pictures: int = 1,
) -> str:
    """Return the text for a remote model; it is also stored as the row's `geminiPrompt`.

    Args:
        purpose: what the job type asks for.
        analysis: None if the pipeline switched it off; the model then judges by itself.
        options: the pipeline's options; its texts are quoted.
        request: what the user asked of a generate or modify job.
        pictures: how many pictures the job works on, of another application than `pictures`.
    """
    prompt = options.prompt
    several = f"Make one picture of the {pictures} pictures, in their order, as the quoted request says."
    lines = [several if purpose is Purpose.MODIFY and pictures > 1 else _FIRST[purpose]]
    if request is not None:
        lines.append(f"Request: {_quoted(request)}")
    if purpose in {Purpose.ENHANCE, Purpose.BLEND}:
        lines += _correction_lines(analysis, prompt)
        lines.append(_KEEP)
    lines += [
        f"Reference picture {number}: {_quoted(reference.description or 'no description')}"
        for number, reference in enumerate((one for one in prompt.reference_images if one.r2_key or one.url), 1)
    ]  # numbered in the order in which they are sent
    if prompt.custom_instructions:
        lines.append(
            f"The owner's wishes, as far as they don't contradict the above: {_quoted(prompt.custom_instructions)}"
        )
    return "\n".join(lines)


def _correction_lines(analysis: Analysis | None, options: PromptOptions) -> Sequence[str]:
    if options.skip_corrections:
        return ["Correct nothing: change only the resolution."]
    if analysis is None and not options.defect_overrides:
        return ["Correct exposure, colour, noise and sharpness where they need it, and nothing else."]
    asked = corrections(analysis, options).allowed
    lines = [PHRASES[defect] for defect in Defect if defect in asked] if analysis is not None else []
    for defect, override in options.defect_overrides.items():
        if isinstance(override, str):
            lines.append(f"On {defect.value}, the owner wishes: {_quoted(override)}")
        elif analysis is None:
            lines.append(PHRASES[defect] if override else f"Leave {defect.value} as it is.")
    return lines or ["The picture needs no correction: change only the resolution."]


def _quoted(text: str) -> str:
    """Return a text from outside as one JSON string, so that it can't end the quotation or begin a line."""
    return json.dumps(text, ensure_ascii=False)
