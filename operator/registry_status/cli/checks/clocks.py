"""Whether two clocks agree: a server's, by the Date of its answer, and ours."""

from datetime import UTC
from email.utils import parsedate_to_datetime

from registry_status.cli.checks.finding import Finding, Findings

MOST = 5.0
"""Seconds by which clocks may differ: as much as matching allows between a registration and a container's start."""


def check_clock(told: Findings, whose: str, date: str, sent_at: float, answered_at: float) -> Finding:
    """Compare a Date header with our own clock around the request; times are epoch seconds."""
    try:
        theirs = parsedate_to_datetime(date).replace(tzinfo=UTC).timestamp()
    except (ValueError, TypeError, OverflowError):
        return told.skipped(f"the clock of {whose} is not known: its answers have no Date")
    # The header has whole seconds, and was written at some time between.
    ahead = max(theirs - answered_at, sent_at - theirs - 1, 0.0)
    if ahead <= MOST:
        return told.ok(f"the clock of {whose} agrees with ours")
    direction = "ahead of" if theirs > answered_at else "behind"
    return told.warning(
        f"the clock of {whose} is {ahead:.0f} s {direction} ours",
        "synchronise the machines by NTP: registrations and container starts are told apart by their times",
    )
