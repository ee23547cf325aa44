"""What all levels of tests share."""

import pytest

from tests.cluster import levels


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Name the levels that could not run: a green run must not hide that half of it was left out."""
    for line in levels.summary(config):
        terminalreporter.write_line(line, red=True, bold=True)
