from registry_status.times import timestamp


def test_kubernetes_times_have_whole_seconds() -> None:
    assert timestamp(1_790_000_000.999) == timestamp(1_790_000_000) == "2026-09-21T14:13:20Z"
