"""Schedules: when a periodic task is due, and what happens to times at which no scheduler ran."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, Final, Literal, cast, get_args
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError
from pydantic import TypeAdapter, ValidationError

from config.periodic_terms import ScheduleTerms

Missed = Literal["skip", "coalesce", "catch_up"]

MOST_CAUGHT_UP: Final = 24
"""How many missed ticks `catch_up` makes at most; they are the newest ones."""

ON_TIME: Final = timedelta(minutes=5)
"""How late a tick may begin and still count as on time: schedulers look once a second, but a restart takes longer."""

MOST_LISTED: Final = 100_000
"""How many times of a gap are listed; of a longer gap only the newest times matter."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_INTERVAL: Final = TypeAdapter(timedelta)


class InvalidScheduleError(ValueError):
    """Raised when a schedule can't be read; the message says which part, and what to write."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """When a task runs: a cron expression (five fields) or an ISO 8601 interval, in a time zone.

    Attributes:
        when: such as `*/15 * * * *` or `PT15M`; intervals are counted from 1970, so that every scheduler agrees.
        time_zone: an IANA name; cron times are local there, also across a change to summer time.
        missed: the rule for ticks that were missed while no scheduler ran: `skip` them, `coalesce` them into the
            newest, or `catch_up` the newest MOST_CAUGHT_UP one by one.
        is_paused: whether an operator has paused it.
    """

    when: str
    time_zone: str = "UTC"
    missed: Missed = "coalesce"
    is_paused: bool = False

    def changed(self, terms: ScheduleTerms | None, changes: Mapping[str, Any]) -> "Schedule":
        """Return this schedule with the environment's terms, and then an operator's changes, applied.

        Raises:
            InvalidScheduleError: the result can't be read.
        """
        given = {**(terms.model_dump(exclude_none=True) if terms else {}), **changes}
        missed = given.get("missed", self.missed)
        if missed not in get_args(Missed):
            raise InvalidScheduleError(f"missed {missed!r}: give {', '.join(get_args(Missed))}")
        made = replace(
            self,
            when=str(given.get("schedule", self.when)),
            time_zone=str(given.get("time_zone", self.time_zone)),
            missed=cast("Missed", missed),
            is_paused=given.get("paused") is True,
        )
        made.after(_EPOCH)
        return made

    def after(self, moment: datetime) -> datetime:
        """Return the first time after a moment.

        Raises:
            InvalidScheduleError: the schedule can't be read, or has no such time.
        """
        return _first_after(self, moment)

    def due(self, since: datetime, now: datetime) -> list[datetime]:
        """Return the times in (since, now], oldest first, at most MOST_LISTED.

        If `now` is before `since`, because a clock was set back, return the last time before now. If that time's tick
        exists already, the caller doesn't insert it again.

        Raises:
            InvalidScheduleError: the schedule can't be read.
        """
        if since <= now < self.after(since):
            return []
        found: list[datetime] = []
        for time in self.times(now + timedelta(microseconds=1), reverse=True):
            if (time <= since <= now) or len(found) >= MOST_LISTED or (since > now and found):
                break
            found.append(time)
        return found[::-1]

    def kept(self, due: list[datetime], now: datetime) -> list[datetime]:
        """Return those of the due times that become ticks, by the rule for missed ticks."""
        if self.missed == "catch_up":
            return due[-MOST_CAUGHT_UP:]
        if self.missed == "skip":
            return [time for time in due[-1:] if now - time <= ON_TIME]
        return due[-1:]

    def times(self, moment: datetime, *, reverse: bool) -> Iterator[datetime]:
        """Yield the times after a moment, or with `reverse` those before it, in the order of their distance to it.

        Raises:
            InvalidScheduleError: the schedule can't be read.
        """
        if self.when.startswith("P"):
            return self._interval_times(moment, reverse=reverse)
        try:
            local = moment.astimezone(ZoneInfo(self.time_zone))
            return (time.astimezone(UTC) for time in CronSim(self.when, local, reverse=reverse))
        except (CronSimError, ZoneInfoNotFoundError, ValueError) as error:
            raise InvalidScheduleError(
                f"schedule {self.when!r} in {self.time_zone!r}: {error}; give a cron expression of five fields or an "
                "interval such as PT15M, and a time zone such as Europe/London"
            ) from error

    def _interval_times(self, moment: datetime, *, reverse: bool) -> Iterator[datetime]:
        try:
            interval = _INTERVAL.validate_python(self.when)
        except ValidationError as error:
            raise InvalidScheduleError(f"schedule {self.when!r} is no ISO 8601 interval, as PT15M is") from error
        if interval < timedelta(seconds=1):
            raise InvalidScheduleError(f"schedule {self.when!r} is shorter than a second")
        number = (moment - _EPOCH) // interval
        is_whole = _EPOCH + number * interval == moment
        number = number - (reverse and is_whole) if reverse else number + 1
        while True:
            yield _EPOCH + number * interval
            number += -1 if reverse else 1


@lru_cache(maxsize=256)
def _first_after(schedule: Schedule, moment: datetime) -> datetime:
    """Return the first time after a moment, kept because a scheduler asks for the same one each second."""
    time = next(schedule.times(moment, reverse=False), None)
    if time is None:
        raise InvalidScheduleError(f"schedule {schedule.when!r} never comes")
    return time
