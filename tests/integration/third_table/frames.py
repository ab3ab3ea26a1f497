"""A job table that no release has: other labels, bigint ids, times with a zone, and money of its own.

A plugin of pytest (`-p tests.integration.third_table.frames`) and of chaos runs (`--tables
tests.integration.third_table.orders`): it registers the descriptions, their job types and a stage before other code
reads the registries. A release would add each in a file and a line.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from models.applications import registry
from models.applications.application import Application
from models.job_state import JobStatus
from models.job_tables.inputs import JobInputs
from models.job_tables.table import BIGINT, INTEGER, UUID, Balance, Check, Inputs, JobTable
from pipelines.imaging.orientation import oriented_size
from pipelines.job_types import GENERATE, JOB_TYPES, JobType
from pipelines.prompts import Purpose
from pipelines.stage import Stage
from pipelines.stage_context import StageContext
from pipelines.stages.objects import read_input, room_for

FRAMES = JobTable(
    name="public.frame_orders",
    rows="frames",
    row="frame",
    job_types=("frame",),
    user="r.customer::text",
    job_type="'frame'",
    tier="r.size",
    cost="r.price",
    max_attempts="darkroom.max_attempts(2)",
    created="coalesce(r.begun AT TIME ZONE 'utc', darkroom.utc_now())",
    first_stage="'MEASURING'",
    labels={
        JobStatus.PENDING: "new",
        JobStatus.PROCESSING: "working",
        JobStatus.COMPLETED: "done",
        JobStatus.FAILED: "error",
        JobStatus.REFUNDED: "error",
        JobStatus.CANCELLED: "stopped",
    },
    inputs=Inputs(
        """SELECT r.size AS tier, r.photo_key FROM public.frame_orders r JOIN darkroom.job_queue q ON q.id = $2
           WHERE r.id = $1::text::bigint""",
        lambda row: JobInputs(row["tier"], None, None, None, {}, input_key=row["photo_key"], changes_input=True),
    ),
    result={"print_key": "key", "print_url": "url"},
    retrying_label="again",
    held_labels=("draft",),
    scheduled_at="r.due",
    id_type=BIGINT,
    status_column="state",
    status_type="text",
    time_type="timestamptz",
    error_column="reason",
    retries_column="tries",
    started_column="begun",
    completed_column="ended",
    frozen=("id", "customer", "photo_key", "size", "price"),
    names_refused_changes=False,
    checks=(Check("r.photo_key <> ''", "22023", "an order has 100 % of a photo"),),
    key_column="print_key",
    object_columns=("photo_key", "print_key", "print_url"),
    input_columns=("photo_key",),
    money=Balance("public.customers", "id", "b.credits", "credits = b.credits + $amount", INTEGER),
)

GIFTS = JobTable(
    name="public.gifts",
    rows="gifts",
    row="gift",
    job_types=("gift",),
    user="r.owner",
    job_type="CASE r.kind WHEN 'gift' THEN 'gift' END",
    has_other_rows=True,
    tier="'TIER_1K'",
    cost="NULL",
    max_attempts="darkroom.max_attempts(NULL)",
    created="darkroom.utc_now()",
    first_stage="'GENERATING'",
    labels={status: str(status).lower() for status in JobStatus},
    inputs=Inputs(
        "SELECT r.kind FROM public.gifts r JOIN darkroom.job_queue q ON q.id = $2 WHERE r.gift = $1::text::uuid",
        lambda row: JobInputs("TIER_1K", None, None, None, {}, prompt=f"a {row['kind']} in a box"),
    ),
    result={"pic": "key"},
    id_column="gift",
    id_type=UUID,
    status_type="text",
    frozen=("gift", "owner", "kind"),
    names_refused_changes=False,
)
"""Nobody pays for these, a row shows its label and its result alone, and rows of another kind are another program's."""

PRINTS = JobTable(
    name="public.print_orders",
    rows="prints",
    row="print",
    application="prints",
    job_types=("prints.print",),
    user="r.shopper",
    job_type="'prints.print'",
    tier="'TIER_1K'",
    cost="r.price",
    max_attempts="darkroom.max_attempts(NULL)",
    created="darkroom.utc_now()",
    first_stage="'GENERATING'",
    labels={status: str(status).lower() for status in JobStatus} | {JobStatus.REFUNDED: "failed"},
    inputs=Inputs(
        "SELECT r.id FROM public.print_orders r JOIN darkroom.job_queue q ON q.id = $2 WHERE r.id = $1",
        lambda _: JobInputs("TIER_1K", None, None, None, {}, prompt="a print"),
    ),
    result={"pic": "key"},
    status_column="state",
    status_type="text",
    frozen=("id", "price"),
    money=Balance(
        "public.shoppers",
        "shopper",
        "(b.account ->> 'credits')::integer",
        "account = jsonb_set(b.account, '{credits}', to_jsonb((b.account ->> 'credits')::integer + $amount))",
        ledger="INSERT INTO public.movements VALUES ($user, $amount, $kind, $job, $balance)",
    ),
)
"""Paid from a part of a JSON column, with a ledger of the application's own."""


@dataclass(frozen=True, slots=True)
class Measures:
    """How large a photo is, upright."""

    width_px: int
    height_px: int

    def to_json(self) -> dict[str, Any]:
        return {"width_px": self.width_px, "height_px": self.height_px}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        return cls(value["width_px"], value["height_px"])


async def measure(context: StageContext) -> Measures:
    """Return the size of the photo that is to be framed."""
    async with room_for(context, 1) as room:
        data = await read_input(context)
        room.shrink(len(data))
        return Measures(*await context.pixels.run(oriented_size, data, context.limits))


MEASURE = Stage("MEASURING", measure, output=Measures, deadline_s=30)

JOB_TYPES |= {
    "frame": JobType("frame", (MEASURE, GENERATE)),
    "gift": JobType("gift", (GENERATE,), Purpose.GENERATE),
    "prints.print": JobType("prints.print", (GENERATE,), Purpose.GENERATE),
}
SHOP = Application(name="shop", schema="public", tables=(FRAMES, GIFTS, PRINTS), needs={})
registry.SHIPPED["shop"] = lambda _: SHOP
registry.use((*registry.applications(), SHOP))
