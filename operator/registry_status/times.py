"""Times as Kubernetes writes them."""

from datetime import UTC, datetime

FIRST, LAST = -62_135_596_800, 253_402_300_799
"""The years 1 to 9999, which is what RFC 3339 can write."""


def timestamp(seconds: float) -> str:
    """Write epoch seconds as RFC 3339 in UTC, whole seconds: what is less is cut off.

    Beyond what can be written it is the first or last time that can: strange times stand in pods and registries too.
    """
    moment = datetime.fromtimestamp(min(max(seconds, FIRST), LAST), UTC)
    return moment.replace(tzinfo=None).isoformat(timespec="seconds") + "Z"
