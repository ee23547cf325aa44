from registry_status.demo.clock import StoryClock


def test_the_storys_clock_runs_faster() -> None:
    steady = iter([100.0, 101.0, 102.5])
    clock = StoryClock(speed=4.0, epoch=1000.0, origin=100.0, steady=lambda: next(steady))
    assert [clock(), clock(), clock()] == [1000.0, 1004.0, 1010.0]
    assert clock.wall_seconds(10.0) == 2.5


def test_time_can_be_skipped() -> None:
    clock = StoryClock(speed=1.0, epoch=1000.0, origin=100.0, steady=lambda: 100.0)
    clock.skip(30)
    assert clock() == 1030.0


async def test_waits_are_shorter_in_a_faster_story() -> None:
    clock = StoryClock.started(4.0)
    before = clock()
    await clock.sleep(0.4)
    assert 0.4 <= clock() - before < 2.0
