"""When a worker looks often for jobs instead of asking for a wake-up."""

from workers.entry_rate import DENSE_COUNT, WINDOW_S, EntryRate


def test_jobs_that_come_one_by_one_are_not_dense():
    rate = EntryRate()
    assert not any(rate.is_dense(number * 0.1, number) for number in range(100))


def test_many_within_the_window_are_dense_until_it_is_over():
    rate = EntryRate()
    assert not rate.is_dense(0, 1_000)
    assert rate.is_dense(0.01, 1_000 + DENSE_COUNT)
    assert rate.is_dense(WINDOW_S * 0.9, 1_000 + DENSE_COUNT)
    assert not rate.is_dense(WINDOW_S + 0.02, 1_000 + DENSE_COUNT)


def test_one_that_has_not_looked_for_long_takes_what_came_for_dense():
    rate = EntryRate()
    rate.is_dense(0, 0)
    assert rate.is_dense(60, DENSE_COUNT)
    assert not rate.is_dense(60 + WINDOW_S, DENSE_COUNT)


def test_dense_at_a_thousand_a_second_whatever_a_look_finds():
    rate = EntryRate()
    verdicts = [rate.is_dense(tick * 0.005, tick * 5) for tick in range(400)]
    assert verdicts.index(True) <= 2
    assert all(verdicts[2:])
