"""How many examples hypothesis draws: few and always the same by default, many and new ones on request.

HYPOTHESIS_PROFILE=long python -m pytest tests/test_properties_*.py
"""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

settings.register_profile(
    "short", max_examples=50, stateful_step_count=20, deadline=None, derandomize=True, database=None
)
settings.register_profile(
    "long",
    max_examples=2000,
    stateful_step_count=50,
    deadline=None,
    database=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "short"))
