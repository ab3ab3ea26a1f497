"""The report of a run: a table for people, and JSON."""

import json
import statistics
from collections import Counter, defaultdict
from dataclasses import asdict, dataclass
from pathlib import Path

import asyncpg

from tests.chaos.auditor import FURTHER, INTERRUPTED, Violation
from tests.chaos.book import Book
from tests.chaos.plan import Options

EXAMPLES = 5
DEATHS = {"kill", "zombie", "lost_machine"}

STATUSES = "SELECT status::text, count(*) FROM darkroom.jobs GROUP BY 1 ORDER BY 1"
TYPES = "SELECT type, count(*) FROM darkroom.jobs GROUP BY 1 ORDER BY 1"
REASONS = """
SELECT coalesce(regexp_replace(left(error, 90), '[0-9]+', 'N', 'g'), event) AS reason, count(*)
FROM darkroom.stage_runs WHERE event = 'failed' GROUP BY 1 ORDER BY 2 DESC LIMIT 12
"""
CALLS = "SELECT event, count(*) FROM chaos.provider_count GROUP BY 1 ORDER BY 1"
WASTED = f"""
SELECT (SELECT count(*) FROM chaos.provider_count WHERE event = 'picture')
       - (SELECT count(DISTINCT job_id) FROM chaos.status_log WHERE after = 'COMPLETED')
       - (SELECT further FROM ({FURTHER}) f) AS wasted,
       (SELECT count(*) FROM ({INTERRUPTED}) i WHERE why = 'its worker died') AS died,
       (SELECT count(*) FROM ({INTERRUPTED}) i WHERE why = 'it was ended') AS ended,
       (SELECT count(*) FROM darkroom.provider_calls WHERE outcome = 'open') AS open,
       (SELECT count(*) FROM darkroom.provider_calls c JOIN darkroom.stage_runs r
            ON r.job_id = c.job_id AND r.job_type = c.job_type AND r.attempt = c.attempt AND r.event = 'rescued'
        WHERE c.purpose = 'generate' AND c.outcome IN ('open', 'answered')) AS lost
"""
# From the last that happened to a worker to the rescue of what it held, and to the next claim of that
RESCUES = """
SELECT DISTINCT ON (r.id) i.kind, extract(epoch FROM r.at - i.at)::float8 AS rescued_s,
       extract(epoch FROM c.at - i.at)::float8 AS claimed_s
FROM darkroom.stage_runs r
JOIN chaos.injected i ON i.worker_id = r.worker_id AND i.at <= r.at
LEFT JOIN LATERAL (SELECT c.at FROM darkroom.stage_runs c
                   WHERE c.job_id = r.job_id AND c.job_type = r.job_type AND c.event = 'claimed' AND c.id > r.id
                   ORDER BY c.id LIMIT 1) c ON true
WHERE r.event = 'rescued' ORDER BY r.id, i.at DESC
"""
# From the commit that ends a job to the end of the call that was being made for it
ABORTS = """
SELECT extract(epoch FROM c.finished_at - l.at)::float8 AS abort_s
FROM chaos.status_log l JOIN darkroom.provider_calls c ON c.job_id = l.job_id AND c.started_at < l.at
WHERE l.after IN ('CANCELLED', 'FAILED', 'REFUNDED', 'DELETED') AND l.program <> 'darkroom' AND c.outcome = 'cut_off'
  AND c.finished_at > l.at
"""
# The first moment after a loss from which as many jobs complete in five seconds as in half of the time before it
RECOVERIES = """
SELECT i.kind, (SELECT extract(epoch FROM l.at - i.at)::float8 FROM chaos.status_log l
                WHERE l.after = 'COMPLETED' AND l.at > i.until
                  AND (SELECT count(*) FROM chaos.status_log n
                       WHERE n.after = 'COMPLETED' AND n.at BETWEEN l.at AND l.at + interval '5 s')
                      >= (SELECT count(*) / 6.0 FROM chaos.status_log b
                          WHERE b.after = 'COMPLETED' AND b.at BETWEEN i.at - interval '15 s' AND i.at)
                ORDER BY l.at LIMIT 1) AS recovered_s,
       extract(epoch FROM i.until - i.at)::float8 AS down_s
FROM chaos.injected i WHERE i.kind IN ('redis_restart', 'postgres_restart', 'flush')
"""


def spread(values: list[float]) -> dict[str, float | int]:
    """Return how many there are, and the percentiles that figures are published by."""
    if not values:
        return {"count": 0}
    ordered = sorted(values)
    at = lambda share: round(ordered[min(len(ordered) - 1, int(share * len(ordered)))], 2)  # noqa: E731 - one word
    return {"count": len(values), "p50": round(statistics.median(ordered), 2), "p95": at(0.95), "p99": at(0.99),
            "max": at(1.0)}  # fmt: skip


@dataclass(slots=True)
class Report:
    """Everything that a run showed."""

    facts: dict
    violations: list[Violation]

    @classmethod
    async def of(cls, connection: asyncpg.Connection, options: Options, book: Book, violations: list[Violation], *,
                 drained_s: float | None, stuck: list[str]) -> "Report":  # fmt: skip
        """Read the figures of a run that is over."""

        async def counts(query: str) -> dict[str, int]:
            return dict(await connection.fetch(query))

        rescues = defaultdict(list)
        claims = []
        for row in await connection.fetch(RESCUES):
            rescues[row["kind"]].append(row["rescued_s"])
            if row["claimed_s"] is not None:
                claims.append(row["claimed_s"])
        recoveries = defaultdict(list)
        for row in await connection.fetch(RECOVERIES, timeout=300):
            recoveries[row["kind"]].append(row)
        wasted = await connection.fetchrow(WASTED)
        statuses = await counts(STATUSES)
        deaths = [kind for kind in _events(book) if kind in DEATHS]
        return cls(
            {
                "options": asdict(options),
                "submitted": len({one.job_id for one in book.submitted}),
                "statuses": statuses,
                "types": await counts(TYPES),
                "failed_because": await counts(REASONS),
                "faults": dict(sorted(Counter(_events(book)).items())),
                "programs": dict(sorted(book.seen.items())),
                "deadlocks": len(book.deadlocks),
                "provider": await counts(CALLS),
                "pictures_wasted": wasted["wasted"],
                "calls_lost_by_death": wasted["lost"],
                "calls_lost_per_death": round(wasted["lost"] / max(1, len(deaths)), 2),
                "interrupted_by_death": wasted["died"],
                "interrupted_by_end": wasted["ended"],
                "open_intents": wasted["open"],
                "rescued_after_s": {kind: spread(values) for kind, values in rescues.items()}
                | {"all": spread([value for values in rescues.values() for value in values])},
                "claimed_again_after_s": spread(claims),
                "cancel_committed_after_s": spread(book.cancels_s),
                "call_aborted_after_s": spread([row[0] for row in await connection.fetch(ABORTS)]),
                "recovered_after_s": {
                    kind: spread([row["recovered_s"] for row in rows if row["recovered_s"] is not None])
                    | {"never": sum(row["recovered_s"] is None for row in rows),
                       "down_p50": round(statistics.median(row["down_s"] for row in rows), 2)}
                    for kind, rows in recoveries.items()
                },
                "drained_s": drained_s if drained_s is None else round(drained_s, 1),
                "jobs_per_s": round(sum(statuses.values()) / (options.seconds + (drained_s or 0)), 2),
                "had_to_be_killed_at_the_end": stuck,
            },
            violations,
        )  # fmt: skip

    def save(self, path: Path) -> None:
        """Write everything as JSON."""
        path.write_text(
            json.dumps(self.facts | {"violations": [asdict(one) for one in self.violations]}, indent=2) + "\n"
        )

    def text(self) -> str:
        """Return a table: one fact a line, then every promise that was broken, with examples."""
        lines = [f"{name:28} {_cell(value)}" for name, value in self.facts.items()]
        kinds = defaultdict(list)
        for one in self.violations:
            kinds[one.promise, one.finding.partition(":")[0]].append(one)
        for (promise, name), found in kinds.items():
            lines.append(f"BROKEN {promise}: {name}, {len(found)} times")
            lines += [f"    {one.subject}: {one.finding}" for one in found[:EXAMPLES]]
        return "\n".join([*lines, f"{len(self.violations)} violations" if kinds else "every promise held"])


def _events(book: Book) -> list[str]:
    """Name each fault once, though a lost machine hits several workers."""
    return [kind for kind, _ in {(one.kind, one.at_s) for one in book.injected}]


def _cell(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_cell(part)}" for name, part in value.items()) or "none"
    return str(value)
