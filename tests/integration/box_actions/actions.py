"""The job table `box_actions`: each job sends its payload to an HTTP endpoint and keeps what that answers.

A plugin of pytest (`-p tests.integration.box_actions.actions`) and of this folder's worker: it registers the
description before other code reads the registry. The job type and its stage are a release's own.
"""

from models.applications import registry
from models.applications.application import Application
from models.job_state import JobStatus
from models.job_tables.inputs import JobInputs
from models.job_tables.table import BIGINT, Inputs, JobTable

BOX_ACTIONS = JobTable(
    name="public.box_actions",
    rows="box_actions",
    row="box_action",
    job_types=("call",),
    user="r.box_id::text",
    job_type="'call'",
    tier="'FREE'",
    cost="NULL",
    max_attempts="darkroom.max_attempts(NULL)",
    created="coalesce(r.started AT TIME ZONE 'utc', darkroom.utc_now())",
    first_stage="'CALLING'",
    labels={
        JobStatus.PENDING: "queued",
        JobStatus.PROCESSING: "calling",
        JobStatus.COMPLETED: "done",
        JobStatus.FAILED: "failed",
        JobStatus.REFUNDED: "failed",
        JobStatus.CANCELLED: "cancelled",
    },
    inputs=Inputs(
        """SELECT r.endpoint AS url, r.payload || jsonb_build_object('action', r.action, 'box', r.box_id) AS body
           FROM public.box_actions r JOIN darkroom.job_queue q ON q.id = $2 WHERE r.id = $1::text::bigint""",
        lambda row: JobInputs("FREE", None, None, None, {}, call={"url": row["url"], "body": row["body"]}),
    ),
    result={"answer": "answer", "http_status": "http_status"},
    id_type=BIGINT,
    status_type="text",
    time_type="timestamptz",
    error_column="error",
    retries_column="attempts",
    started_column="started",
    completed_column="ended",
    frozen=("id", "box_id", "action", "endpoint", "payload"),
    json_columns=frozenset({"answer"}),
)

BOXES = Application(name="boxes", schema="public", tables=(BOX_ACTIONS,), needs={})
registry.SHIPPED["boxes"] = lambda _: BOXES
registry.use((*registry.applications(), BOXES))
