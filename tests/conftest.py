"""One deterministic profile for all property tests: a failure on one machine fails on every other."""

from hypothesis import HealthCheck, settings

settings.register_profile(
    "laws", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("laws")
