"""Estimates of jobs' ends that are made to be compared with what the jobs take; models/periodic/estimates.sql."""

from models.connections import Connection


async def score_estimates(connection: Connection) -> int:
    """Compare estimates with the ends of their jobs; return how many got a score."""
    scored: int = await connection.fetchval("SELECT darkroom.score_estimates()")
    return scored


async def make_estimates(connection: Connection, most: int) -> int:
    """Estimate the ends of up to so many unfinished jobs; return how many got an estimate."""
    made: int = await connection.fetchval("SELECT darkroom.make_estimates($1)", most)
    return made


async def count_open(connection: Connection) -> int:
    """Count the estimates that are to be compared."""
    found: int = await connection.fetchval("SELECT count(*) FROM darkroom.estimates e WHERE e.ended_at IS NULL")
    return found
