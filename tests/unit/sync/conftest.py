"""What holds in every test of `sync`."""

import logging
from collections.abc import Iterator

import pytest

from registry_status.sync import worker


@pytest.fixture(autouse=True)
def no_internal_errors() -> Iterator[None]:
    """Workers go on after an error that nobody expected, and so would a test: it must fail instead."""
    errors: list[logging.LogRecord] = []
    handler = logging.Handler(logging.ERROR)
    handler.emit = errors.append  # type: ignore[method-assign]
    worker.logger.addHandler(handler)
    yield
    worker.logger.removeHandler(handler)
    assert not errors, errors[0].exc_info
