"""Plain dramatiq with SQLAlchemy's ORM: threads, Redis as its broker, one session a job that commits at each stage.

A job whose worker is killed runs again from its start. Nothing fences the first run if it still lives, and charging,
refunds and a record of what was paid are left to the application.
"""

import dramatiq
from dramatiq.brokers.redis import RedisBroker
from sqlalchemy import JSON, DateTime, create_engine, func
from sqlalchemy.dialects.postgresql import ENUM
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from bench.peers.commands import DRAMATIQ_THREADS
from bench.peers.steps import database_url, redis_url

dramatiq.set_broker(RedisBroker(url=redis_url()))
engine = create_engine(
    database_url().replace("postgresql://", "postgresql+psycopg://"),
    pool_size=DRAMATIQ_THREADS,
    connect_args={"options": "-c session_replication_role=replica", "prepare_threshold": 1},
)

STAGE = ENUM("ANALYZING", "CROPPING", "PROMPTING", "GENERATING", name="PipelineStage", create_type=False)


class Base(DeclarativeBase):
    """The base of the one model."""


class Job(Base):
    """The columns of a job that its task reads and writes."""

    __tablename__ = "image_enhancement_jobs"

    id: Mapped[str] = mapped_column(primary_key=True)
    status: Mapped[str] = mapped_column(ENUM("PENDING", "PROCESSING", "COMPLETED", name="JobStatus", create_type=False))
    stage: Mapped[str | None] = mapped_column("currentStage", STAGE)
    analysis: Mapped[dict | None] = mapped_column("analysisResult", JSON)
    crop: Mapped[dict | None] = mapped_column("cropDimensions", JSON)
    prompt: Mapped[str | None] = mapped_column("geminiPrompt")
    key: Mapped[str | None] = mapped_column("enhancedR2Key")
    url: Mapped[str | None] = mapped_column("enhancedUrl")
    started_at: Mapped[object] = mapped_column("processingStartedAt", DateTime)
    completed_at: Mapped[object] = mapped_column("processingCompletedAt", DateTime)


@dramatiq.actor
def enhance(job_id: str) -> None:
    with Session(engine, expire_on_commit=False) as session:
        job = session.get_one(Job, job_id)
        for values in (
            {"status": "PROCESSING", "stage": "ANALYZING", "started_at": func.darkroom.utc_now()},
            {"stage": "CROPPING", "analysis": {"a": 1}},
            {"stage": "PROMPTING", "crop": {"x": 1}},
            {"stage": "GENERATING", "prompt": "x"},
            {"key": "x", "url": "x"},
            {"status": "COMPLETED", "stage": None, "completed_at": func.darkroom.utc_now()},
        ):
            for name, value in values.items():
                setattr(job, name, value)
            session.commit()


def queue_jobs(prefix: str, count: int) -> None:
    """Queue the jobs `PREFIX1` to `PREFIXn`."""
    for number in range(1, count + 1):
        enhance.send(f"{prefix}{number}")
