"""A job table of another application, whose jobs may work on several pictures and make several.

A plugin of pytest (`-p tests.integration.several_pictures.studies`): it registers the description before other code
reads the registry, in this process and in those that the tests fork.
"""

from models.applications import registry
from models.applications.application import Application
from models.job_state import JobStatus
from models.job_tables.inputs import JobInputs
from models.job_tables.table import BIGINT, Inputs, JobTable, ResultRows

STUDIES = JobTable(
    name="public.studies",
    rows="studies",
    row="study",
    application="atelier",
    job_types=("atelier.modify", "atelier.enhance"),
    user="r.who",
    job_type="'atelier.' || r.kind",
    tier="'TIER_1K'",
    cost="NULL",
    max_attempts="darkroom.max_attempts(2)",
    created="darkroom.utc_now()",
    first_stage="CASE r.kind WHEN 'enhance' THEN 'ANALYZING' ELSE 'GENERATING' END",
    labels={status: str(status).lower() for status in JobStatus},
    inputs=Inputs(
        """SELECT r.words, r.pictures, r.wanted, r.choices FROM public.studies r
           JOIN darkroom.job_queue q ON q.id = $2 WHERE r.id = $1::text::bigint""",
        lambda row: JobInputs(
            *("TIER_1K", None, None, None, {}),
            prompt=row["words"],
            pictures=tuple(row["pictures"]),
            count=row["wanted"],
            parameters=row["choices"],
        ),
    ),
    result={"result_ids": "ids", "first_key": "key"},
    result_rows=ResultRows(
        "public.study_files",
        {
            "id": "p.id",
            "study": "r.id",
            "who": "r.who",
            "n": "p.n",
            "key": "p.key",
            "url": "p.url",
            "width": "p.width_px",
            "height": "p.height_px",
            "bytes": "p.size_bytes",
            "sha256": "p.sha256",
            "model": "p.model",
            "temperature": "p.temperature",
        },
    ),
    result_sql="""jsonb_build_object(
        'print_size', concat(to_jsonb(r.*) ->> 'wanted', ': ', $facts ->> 'width_px', 'x', $facts ->> 'height_px'),
        'bytesOfFirst', $facts -> 'size_bytes')""",
    result_sql_columns=("print_size", "bytesOfFirst"),
    id_type=BIGINT,
    status_column="state",
    status_type="text",
    error_column="why",
    frozen=("id", "who", "kind", "pictures", "wanted", "choices"),
)

STUDY = Application(name="atelier", schema="public", tables=(STUDIES,), needs={})
registry.SHIPPED["atelier"] = lambda _: STUDY
registry.use((*registry.applications(), STUDY))
