"""The job table of `studio`: generations, whose inputs and results are rows of `files`."""

from collections.abc import Mapping
from typing import Any

from config.job_terms import MAX_PROMPT_CHARS
from models.job_state import JobStatus
from models.job_tables.inputs import JobInputs
from models.job_tables.table import Balance, Book, Inputs, JobTable, ResultRows

_SIZES = "(CASE r.parameters ->> 'size' WHEN '2K' THEN 'TIER_2K' WHEN '4K' THEN 'TIER_4K' ELSE 'TIER_1K' END)"

_INPUTS = """
SELECT {tier} AS tier, r.prompt, r.parameters, f.keys, f.lost, q.payload ->> 'model' AS model,
       coalesce((q.payload ->> 'is_redone')::boolean, false) AS is_redone
FROM {schema}.generations r
LEFT JOIN darkroom.job_queue q ON q.id = $2
CROSS JOIN LATERAL (
    SELECT array_agg(f."storageId" ORDER BY i.place) AS keys, min(i.id) FILTER (WHERE f._id IS NULL) AS lost
    FROM unnest(r."productImageFiles" || r."modelImageFiles") WITH ORDINALITY i (id, place)
    LEFT JOIN {schema}.files f ON f._id = i.id OFFSET 0) f
WHERE r._id = $1
"""

_AGAIN = """
INSERT INTO {schema}.generations
    ("userId", prompt, parameters, "productImageFiles", "modelImageFiles", "tokensUsed")
SELECT r."userId", r.prompt, r.parameters, r."productImageFiles", r."modelImageFiles",
       CASE darkroom.money_mode() WHEN 'managed'
            THEN coalesce((r.parameters ->> 'count')::numeric, 1)::integer * darkroom.price({tier})
            ELSE r."tokensUsed" END
FROM {schema}.generations r WHERE r._id = $1
RETURNING _id
"""

# Each function is called once for a statement, with all of its rows: ten thousand may arrive at once.
_ENTERING = """
PERFORM darkroom.studio_check_parameters(array_agg(n.parameters), array_agg(n."tokensUsed"), settings)
FROM entering_rows n WHERE n.status IN ('pending', 'uploading');
PERFORM darkroom.studio_check_results(n."resultImageFiles")
FROM entering_rows n WHERE n.status IN ('pending', 'uploading') AND n."resultImageFiles" <> '{}';
"""

_CHECKED = f"""
PERFORM darkroom.studio_check_prompt(n.prompt, cardinality(n."productImageFiles" || n."modelImageFiles"))
FROM {{rows}} n WHERE n.prompt !~ '\\S' OR length(n.prompt) > {MAX_PROMPT_CHARS}
    OR cardinality(n."productImageFiles" || n."modelImageFiles") > 4;
PERFORM darkroom.studio_check_inputs(array_agg(n."userId"), array_agg(i.id), array_agg(i.list))
FROM {{rows}} n CROSS JOIN LATERAL (
    SELECT p.id, 'productImageFiles' AS list FROM unnest(n."productImageFiles") p (id)
    UNION ALL SELECT m.id, 'modelImageFiles' FROM unnest(n."modelImageFiles") m (id)) i;
"""

_DELETED = """
PERFORM darkroom.studio_drop_results(array_agg(o._id), array_agg(o."userId"), array_agg(i.id))
FROM rows_before o CROSS JOIN LATERAL unnest(o."resultImageFiles") i (id);
"""

_LABELS = {
    JobStatus.PENDING: "pending",
    JobStatus.PROCESSING: "processing",
    JobStatus.COMPLETED: "completed",
    JobStatus.FAILED: "failed",
    JobStatus.REFUNDED: "failed",
    JobStatus.CANCELLED: "cancelled",
}


def generations(schema: str) -> JobTable:
    """Return the description of the table in a schema, whose name is quoted as in SQL."""

    def book(when: str, action: str, more: str = "") -> Book:
        return Book(
            when,
            f"""PERFORM darkroom.studio_record_usage('{action}', array_agg(r."userId"),
    array_agg(jsonb_build_object('generationId', r._id, 'tokens', r."tokensUsed"{more})))
FROM {{rows}} r HAVING count(*) > 0;""",
        )

    return JobTable(
        name=f"{schema}.generations",
        rows="studio_generations",
        row="studio_generation",
        application="studio",
        job_types=("studio.modify", "studio.generate"),
        user='r."userId"',
        job_type="""(CASE WHEN r."productImageFiles" || r."modelImageFiles" = '{}' THEN 'studio.generate' """
        "ELSE 'studio.modify' END)",
        tier=_SIZES,
        cost='r."tokensUsed"',
        max_attempts="darkroom.max_attempts(NULL)",
        created="""(r."createdAt" AT TIME ZONE 'utc')""",
        first_stage="'GENERATING'",
        labels=_LABELS,
        inputs=Inputs(_INPUTS.replace("{schema}", schema).replace("{tier}", _SIZES), _load),
        result={"resultImageFiles": "ids"},
        result_rows=ResultRows(
            f"{schema}.files",
            {
                "_id": "p.id",
                '"userId"': 'r."userId"',
                "category": "'generated_image'",
                '"storageId"': "p.key",
                "url": "p.url",
                "width": "p.width_px",
                "height": "p.height_px",
                '"sizeBytes"': "p.size_bytes",
            },
        ),
        held_labels=("uploading",),
        id_column="_id",
        status_type="text",
        time_type="timestamptz",
        error_column="error",
        started_column='"startedAt"',
        completed_column='"completedAt"',
        has_end_of_failure=True,
        frozen=(
            *("_id", '"userId"', "parameters", '"tokensUsed"', '"createdAt"'),
            *("prompt", '"productImageFiles"', '"modelImageFiles"'),
        ),
        open_while_held=("prompt", '"productImageFiles"', '"modelImageFiles"'),
        entering=_ENTERING,
        checked=_CHECKED,
        money=Balance(f"{schema}.users", "_id", 'b."tokenBalance"', '"tokenBalance" = b."tokenBalance" + $amount'),
        books=(
            book("entered", "generation_started"),
            book("completed", "generation_completed", """, 'fileIds', r."resultImageFiles\""""),
            book("failed", "generation_failed", ", 'reason', {reason}"),
            book("cancelled", "generation_cancelled", ", 'reason', {reason}"),
        ),
        deleted=_DELETED,
        again=_AGAIN.replace("{schema}", schema).replace("{tier}", _SIZES),
    )


def _load(row: Mapping[str, Any]) -> JobInputs:
    parameters, lost = row["parameters"], row["lost"]
    count = parameters.get("count") or 1
    return JobInputs(
        tier=row["tier"],
        picture=None,
        source=None,
        pipeline=None,
        checkpoints={},
        lost=None if lost is None else f"file {lost}: not found",
        prompt=row["prompt"],
        pictures=tuple(row["keys"] or ()),
        count=int(count) if isinstance(count, float) else count,  # written 2.0; the insertion has checked it
        model=row["model"],
        is_redone=row["is_redone"],
        parameters=parameters,
    )
