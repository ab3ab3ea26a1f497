"""A job's progress as JSON, for programs and pages that follow it."""

from typing import Any

from workers.operations.job_streams import JobView
from workers.presentation.outlooks import outlook_fields
from workers.presentation.wording import waiting_words

_OF_OUTLOOK = ("place", "etaS", "eta50S", "eta90S")


def progress_fields(view: JobView, max_wait_s: float) -> dict[str, Any]:
    """Return the data of an event `progress`; `status` is None for a job that is deleted.

    Args:
        view: what is known of the job.
        max_wait_s: the maximum wait, for the reasons why it waits.
    """
    progress = view.progress
    outlook = {} if view.outlook is None else outlook_fields(view.outlook)
    return {
        "id": progress.job_id,
        "type": progress.job_type or None,
        "status": progress.status,
        "stage": progress.stage,
        "attempt": progress.attempts,
        "elapsedS": round(progress.elapsed_s, 1),
        **{name: outlook.get(name) for name in _OF_OUTLOOK},
        "waits": [{"kind": wait.kind, "text": waiting_words(wait, max_wait_s)} for wait in view.waits],
        "error": progress.error,
    }
