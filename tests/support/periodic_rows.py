"""Rows for tests of periodic tasks, and simple computations of the expected result, step by step."""

import calendar
from datetime import datetime, timedelta
from typing import Any

from models.database import Database
from tests.support.builders import new_id

ALLOWANCES = {"FREE": 10, "BASIC": 20, "STANDARD": 50, "PREMIUM": 100}


def naive(moment: datetime) -> datetime:
    return moment.replace(tzinfo=None)


def month_later(moment: datetime, day: int) -> datetime:
    year, month = (moment.year, moment.month + 1) if moment.month < 12 else (moment.year + 1, 1)
    return moment.replace(year=year, month=month, day=min(day, calendar.monthrange(year, month)[1]))


class Monthly:
    def __init__(self, balance: int, last: datetime) -> None:
        self.balance, self.last, self.day = balance, last, last.day

    def run(self, now: datetime, tier: str, *, subscribed: bool = False) -> None:
        while month_later(self.last, self.day) <= now:
            self.last = month_later(self.last, self.day)
            self.balance += 0 if subscribed else ALLOWANCES[tier]


class Drip:
    def __init__(self, balance: int, last: datetime) -> None:
        self.balance, self.last = balance, last

    def run(self, now: datetime, tier: str, *, subscribed: bool = False) -> None:
        while self.last + timedelta(minutes=15) <= now:
            self.last += timedelta(minutes=15)
            if self.balance < ALLOWANCES[tier] and not subscribed:
                self.balance += 1


class Subscribed:
    def __init__(self, balance: int, start: datetime, end: datetime, per_month: int, most: int) -> None:
        self.balance, self.start, self.end, self.day = balance, start, end, start.day
        self.per_month, self.most, self.rollover = per_month, most, 0
        self.moves: list[tuple[datetime, int]] = []

    def move(self, at: datetime, tokens: int) -> None:
        self.moves.append((at, tokens))
        self.balance += tokens

    def run(self, now: datetime) -> None:
        while self.end <= now:
            spent = -sum(n for at, n in self.moves if n < 0 and self.start <= at < self.end)
            at_end = self.balance - sum(n for at, n in self.moves if at >= self.end)
            unused = max(0, min(at_end, self.per_month + self.rollover - spent))
            self.rollover = min(unused, self.most)
            self.balance = max(0, self.balance + self.rollover - unused + self.per_month)
            self.start, self.end = self.end, month_later(self.end, self.day)


async def regeneration_of(database: Database, user_id: str) -> tuple[int, datetime]:
    row = await database.fetchrow(
        'SELECT balance, "lastRegeneration" FROM public.user_token_balances WHERE "userId" = $1', user_id
    )
    assert row is not None
    return row["balance"], row["lastRegeneration"]


async def set_last(database: Database, user_id: str, last: datetime, tier: str | None = None) -> None:
    await database.fetch(
        """UPDATE public.user_token_balances SET "lastRegeneration" = $2,
               tier = coalesce($3::text::public."SubscriptionTier", tier) WHERE "userId" = $1""",
        user_id,
        naive(last),
        tier,
    )


async def move_tokens(database: Database, user_id: str, amount: int, at: datetime, kind: str) -> None:
    """Charge or refund as a program does, dated by the played clock."""
    await database.fetch(
        """WITH b AS (UPDATE public.user_token_balances SET balance = balance + $2 WHERE "userId" = $1
                      RETURNING balance)
           INSERT INTO public.token_transactions (id, "userId", amount, type, "balanceAfter", "createdAt")
           SELECT $4, $1, $2, $3::text::public."TokenTransactionType", b.balance, $5 FROM b""",
        user_id,
        amount,
        kind,
        new_id("t"),
        naive(at),
    )


async def make_subscription(database: Database, user_id: str, start: datetime, end: datetime, **columns: Any) -> str:
    """Insert an ACTIVE subscription of 100 tokens a month; `columns` are further ones by name."""
    values = {"status": "ACTIVE", "tier": "BASIC", "tokensPerMonth": 100, "maxRollover": 0, **columns}
    casts = {"status": "SubscriptionStatus", "tier": "SubscriptionTier", "downgradeTo": "SubscriptionTier"}
    names = list(values)
    places = [
        f'${number}::text::public."{casts[name]}"' if name in casts else f"${number}"
        for number, name in enumerate(names, 5)
    ]
    subscription_id = new_id("s")
    await database.fetch(
        f"""INSERT INTO public.subscriptions (id, "userId", "stripeSubscriptionId", "stripePriceId",
                "currentPeriodStart", "currentPeriodEnd", "updatedAt", {", ".join(f'"{name}"' for name in names)})
            VALUES ($1, $2, $1, 'price', $3, $4, darkroom.utc_now(), {", ".join(places)})""",
        subscription_id,
        user_id,
        naive(start),
        naive(end),
        *values.values(),
    )
    return subscription_id


async def subscription_of(database: Database, user_id: str) -> Any:
    return await database.fetchrow('SELECT * FROM public.subscriptions WHERE "userId" = $1', user_id)


async def earned(database: Database, user_id: str) -> list[Any]:
    """Return a user's EARN_REGENERATION rows, oldest first."""
    return await database.fetch(
        """SELECT amount, source, "balanceAfter", metadata FROM public.token_transactions
           WHERE "userId" = $1 AND type = 'EARN_REGENERATION' ORDER BY "createdAt", ctid""",
        user_id,
    )
