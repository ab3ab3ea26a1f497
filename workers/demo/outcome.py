"""The outcome of a run of `darkroom demo`."""

from dataclasses import dataclass, field
from pathlib import Path

from workers.demo.facts import Facts


@dataclass(slots=True)
class Outcome:
    """The outcome of the demo, as the report prints it.

    Attributes:
        home: the demo's own folder.
        facts: one for each job.
        before: balances by e-mail before anything was submitted.
        after: balances by e-mail at the end.
        problems: differences from the expected outcome, one line each.
        phases_s: how long each phase took, in order.
        sheet: the PNG.
        page: the HTML file.
    """

    home: Path
    facts: list[Facts] = field(default_factory=list)
    before: dict[str, int] = field(default_factory=dict)
    after: dict[str, int] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    phases_s: dict[str, float] = field(default_factory=dict)
    sheet: Path | None = None
    page: Path | None = None
