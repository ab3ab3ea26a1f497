"""All that is known of a job at once, as its page shows it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from models.connections import Connection
from models.history.actions import Action
from models.history.timeline import ProviderCall, StageRun, StoredObject
from models.job_state import TERMINAL
from models.job_tables.inputs import JobInputs
from models.money.job_money import MoneyMove
from models.queue.checkpoints import LeftOutput, outputs_left
from models.queue.job_pictures import job_inputs, result_keys
from models.queue.job_rows import Job
from pipelines.analysis import Analysis
from pipelines.job import Crop
from pipelines.job_types import is_job_type, job_type_of
from workers.operations.errors import RETRYABLE
from workers.operations.explaining import CallEnd, Explanation, OpenCall, explain_job
from workers.operations.job_pictures import input_number
from workers.process.runtime import Runtime


@dataclass(frozen=True, slots=True)
class Frame:
    """What a crop keeps: its edges in pixels of the upright original, and that picture's size, about."""

    x: int
    y: int
    width: int
    height: int
    of_width: int
    of_height: int


@dataclass(frozen=True, slots=True)
class JobFacts:
    """What is known of a job.

    Attributes:
        explanation: its history, and why it waits.
        calls: its provider calls, in the order in which they were made.
        moves: its charges and refunds, oldest first.
        actions: what operators did to it, oldest first.
        outputs: what its stages left, by stage; None for a stage that left nothing.
        measures: figures of its analysis, by name.
        treatments: what was done to its picture, in words.
        frame: what the crop keeps; None if nothing was cropped.
        prompts: the texts by which its picture is made: what a stage wrote for the provider, and the user's own.
        before: how many pictures it works on.
        after: how many it has made.
    """

    explanation: Explanation
    calls: Sequence[ProviderCall] = ()
    moves: Sequence[MoneyMove] = ()
    actions: Sequence[Action] = ()
    outputs: Mapping[str, Any] = field(default_factory=dict)
    measures: Mapping[str, Any] = field(default_factory=dict)
    treatments: Sequence[str] = ()
    frame: Frame | None = None
    prompts: Mapping[str, str] = field(default_factory=dict)
    before: int = 0
    after: int = 0

    @property
    def job(self) -> Job | None:
        """The job's row; None when it is deleted."""
        return self.explanation.job

    @property
    def may_be_retried(self) -> bool:
        """Whether an operator can have the job tried again."""
        return self.job is not None and self.job.status in RETRYABLE and bool(self.job.key.table.again)

    @property
    def may_be_cancelled(self) -> bool:
        """Whether the job can be cancelled."""
        return self.job is not None and self.job.status not in TERMINAL

    @property
    def stages(self) -> Sequence[str]:
        """The names of the stages of the job's type, in order."""
        if self.job is None or not is_job_type(self.job.job_type):
            return ()
        return [stage.name for stage in job_type_of(self.job.job_type).stages]

    @property
    def last_run(self) -> StageRun | None:
        """The last event of a stage, with its attempt."""
        runs = [event.fact for event in self.explanation.timeline if isinstance(event.fact, StageRun)]
        return runs[-1] if runs else None


async def job_facts(runtime: Runtime, name: str) -> JobFacts:
    """Return what is known of a job, given by its id or TABLE/ID, or what is left of a deleted one.

    Raises:
        InvalidInputError: the id stands in several tables.
        NotFoundError: there is no record of such a job.
    """
    known = await explain_job(runtime, name)
    facts = [event.fact for event in known.timeline]
    calls: dict[int, ProviderCall] = {}
    for fact in facts:
        if isinstance(fact, CallEnd | OpenCall):
            calls[fact.call.id] = fact.call
    runs = [fact for fact in facts if isinstance(fact, StageRun)]
    measures = next((run.measures for run in reversed(runs) if isinstance(run.measures, dict)), {})
    treatments = next((run.treatments for run in reversed(runs) if run.treatments), None)
    if treatments is None:
        treatments = next((one.treatments for one in facts if isinstance(one, StoredObject)), ())
    kept = {fact.stage: fact.output for fact in facts if isinstance(fact, LeftOutput)}
    inputs, made = None, 0
    job = known.job
    if job is not None:

        async def read(connection: Connection) -> tuple[JobInputs | None, int]:
            return await job_inputs(connection, job), len(await result_keys(connection, job))

        inputs, made = await runtime.database.run(read)
        outputs = outputs_left(job.job_type, job.columns, kept)
    else:
        outputs = dict(kept)
    return JobFacts(
        known,
        calls=[calls[one] for one in sorted(calls)],
        moves=[fact for fact in facts if isinstance(fact, MoneyMove)],
        actions=[fact for fact in facts if isinstance(fact, Action)],
        outputs=outputs,
        measures=measures,
        treatments=[str(one) for one in treatments] if isinstance(treatments, list | tuple) else [],
        frame=_frame(outputs),
        prompts=_prompts(outputs, inputs),
        before=input_number(inputs),
        after=made,
    )


def _frame(outputs: Mapping[str, Any]) -> Frame | None:
    """Return what a crop keeps. The picture's size follows from the fractions that the analysis suggested.

    None if nothing was cropped, or if another program wrote what can't be read.
    """
    try:
        crop = Crop.from_json(outputs["CROPPING"])
        suggested = Analysis.from_json(outputs["ANALYZING"]).cropping.suggested_crop
    except (KeyError, TypeError, ValueError, AttributeError):
        return None
    if crop.box is None or suggested.width <= 0 or suggested.height <= 0:
        return None
    box = crop.box
    width, height = round(box.width / suggested.width), round(box.height / suggested.height)
    return Frame(box.x, box.y, box.width, box.height, max(width, box.right), max(height, box.bottom))


def _prompts(outputs: Mapping[str, Any], inputs: JobInputs | None) -> dict[str, str]:
    found = {}
    if inputs is not None and inputs.prompt:
        found["Of the user"] = inputs.prompt
    output = outputs.get("PROMPTING")
    if isinstance(output, Mapping) and isinstance(output.get("text"), str) and output["text"]:
        found["For the provider"] = output["text"]
    return found
