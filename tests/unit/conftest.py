"""What unit tests of several rooms share."""

import pytest

from registry_status import watched


@pytest.fixture
def looks_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Watched files are looked at each time that they are asked for."""
    monkeypatch.setattr(watched, "LOOK_EVERY", 0.0)
