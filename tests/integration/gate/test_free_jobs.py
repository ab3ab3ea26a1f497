"""What jobs of tier FREE may buy: they cost no token, so a budget of their own limits them."""

from datetime import timedelta

import pytest

from models.gate.provider_calls import Admitted, CallPlan, Refused, open_call
from pipelines.errors import ThrottledError
from pipelines.settings import Settings
from tests.integration.gate.test_gate import RULES, attempt, close
from tests.integration.gate.test_sending import PROMPT, scripted
from tests.support.builders import make_claim, make_job, make_user
from tests.support.buyer import bought_by
from workers.gate.gate import Gate
from workers.gate.refusals import BudgetSpentError
from workers.running.job import RunningJob

LIMIT = {"budgets": {"free_user_day_calls": 2}}


async def free_claim(database, user_id, **columns):
    return await make_claim(database, user_id=user_id, tier="FREE", **columns)


async def test_exactly_so_many_calls_for_a_users_free_jobs_under_8_processes(database, database_url):
    user = await make_user(database)
    for _ in range(48):
        await make_job(database, user_id=user, tier="FREE")
    rules = RULES | {"budgets": {"free_user_day_calls": 13}}

    assert await bought_by(8, database_url, rules, "answered") == 13


async def test_free_jobs_are_counted_by_user_and_paid_jobs_not_at_all(database):
    user = await make_user(database)
    mine = [await attempt(database, await free_claim(database, user), **LIMIT) for _ in range(3)]
    paid = await attempt(database, await make_claim(database, user_id=user), **LIMIT)
    made = await make_claim(database, "generations", user_id=user, tier="FREE")
    by_words = await attempt(database, made, **LIMIT)
    others = await attempt(database, await free_claim(database, await make_user(database)), **LIMIT)

    assert [type(one) for one in (*mine, paid, by_words, others)] == [
        *(Admitted, Admitted, Refused),
        *(Admitted, Refused, Admitted),
    ]
    assert mine[2].reason == "the budget of 2 calls a day and user for FREE jobs is spent"
    assert (mine[2].kind, mine[2].wait_s <= 86_400) == ("budget", True)


async def test_analysis_of_a_free_job_counts_and_a_free_provider_does_not(database):
    user = await make_user(database)
    rules = RULES | LIMIT
    analysis = CallPlan("gemini", "analyze", may_be_paid=True, model="m", rules=rules)
    ours = CallPlan("local", "generate", may_be_paid=False, rules=rules)
    opened = []
    for plan in (ours, analysis, ours, analysis, analysis, ours):
        claim = await free_claim(database, user)
        opened.append(await database.run(lambda connection, c=claim, p=plan: open_call(connection, c, p)))

    assert [type(one) for one in opened] == [*(Admitted, Admitted, Admitted), *(Admitted, Refused, Admitted)]


async def test_call_of_a_free_job_that_was_never_sent_is_given_back(database):
    user = await make_user(database)
    for sent in (False, True, False, True):
        await close(database, await attempt(database, await free_claim(database, user), **LIMIT), was_sent=sent)

    assert isinstance(await attempt(database, await free_claim(database, user), **LIMIT), Refused)


async def test_budget_of_free_jobs_is_whole_again_on_the_next_day(database):
    user = await make_user(database)
    for _ in range(2):
        await attempt(database, await free_claim(database, user), **LIMIT)
    await database.fetch(
        """UPDATE darkroom.limits SET window_start = window_start - interval '1 day'
           WHERE scope = 'budget' AND window_start > 'epoch'"""
    )

    assert isinstance(await attempt(database, await free_claim(database, user), **LIMIT), Admitted)


async def test_anonymous_free_jobs_have_the_budget_of_anonymous_jobs(database):
    user = await make_user(database)
    limits = {"budgets": {"free_user_day_calls": 1, "anonymous_day_calls": 2}}
    opened = [await attempt(database, await free_claim(database, user, isAnonymous=True), **limits) for _ in range(3)]

    assert [type(one) for one in opened] == [Admitted, Admitted, Refused]


@pytest.mark.parametrize(("over_budget", "error"), [("snooze", ThrottledError), ("refuse", BudgetSpentError)])
async def test_free_job_beyond_its_budget_waits_for_the_next_day_or_ends_and_says_so(database, over_budget, error):
    user, provider = await make_user(database), scripted()
    settings = Settings(provider=("gemini",), budgets="free_user_day_calls=1", over_budget=over_budget)
    gate = Gate(database, [provider], provider, settings)

    async def ask():
        job = RunningJob(await free_claim(database, user))
        return await gate.for_job(job, most_paid_calls=3).generate(PROMPT, [], 1024, 1.0)

    await ask()
    with pytest.raises(error, match="the budget of 1 calls a day and user for FREE jobs is spent") as held:
        await ask()

    assert provider.sent == 1
    if over_budget == "snooze":
        assert " 00:00 UTC" in str(held.value)
        assert held.value.retry_after <= timedelta(days=1, minutes=1)
