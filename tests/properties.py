"""How thoroughly property-based tests look: HYPOTHESIS_PROFILE=thorough looks long and at random, else briefly and alike."""

import os

from hypothesis import HealthCheck, settings

THOROUGH = os.environ.get("HYPOTHESIS_PROFILE") == "thorough"
"""An hour before a release, say; the default belongs into every run."""

_BRIEF = settings(max_examples=600, derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
PROFILE = settings(_BRIEF, max_examples=20_000, derandomize=False, print_blob=True) if THOROUGH else _BRIEF
"""Decorate a test with it."""
BRIEFER = settings(PROFILE, max_examples=PROFILE.max_examples // 3)
"""For a test that needs fewer examples."""
TIMEOUT = 7200 if THOROUGH else 300
"""Seconds that one test may take."""
