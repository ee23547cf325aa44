"""What holds in every test of `sync`."""

import logging
from collections.abc import Iterator

import pytest

from registry_status.sync import worker


class Errors(logging.Handler):
    """Keeps the errors that are logged."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.kept: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.kept.append(record)


@pytest.fixture(autouse=True)
def no_internal_errors() -> Iterator[None]:
    """Workers go on after an error that nobody expected, and so would a test: it must fail instead."""
    errors = Errors()
    worker.logger.addHandler(errors)
    yield
    worker.logger.removeHandler(errors)
    assert not errors.kept, errors.kept[0].exc_info
