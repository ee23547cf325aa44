"""So much at once, then bit by bit."""

from registry_status.tokenbucket import TokenBucket


def test_it_gives_a_burst_and_then_its_rate() -> None:
    bucket = TokenBucket(2, 0.5, 0.0)
    assert [bucket.take(0.0) for _ in range(3)] == [True, True, False]
    assert bucket.wait(0.0) == 2.0
    assert bucket.take(2.0)
    assert not bucket.take(3.9)


def test_it_never_holds_more_than_its_burst() -> None:
    bucket = TokenBucket(2, 1, 0.0)
    assert [bucket.take(1e6) for _ in range(3)] == [True, True, False]


def test_it_stands_a_clock_that_steps_back() -> None:
    bucket = TokenBucket(1, 1, 100.0)
    assert bucket.take(100.0)
    assert not bucket.take(50.0)
    assert bucket.take(51.0)


def test_a_token_is_there_at_its_very_time_however_that_is_rounded() -> None:
    bucket = TokenBucket(1, 1 / 30, 1000.1)
    assert bucket.take(1000.1)
    assert bucket.take(1000.1 + 30.0)
