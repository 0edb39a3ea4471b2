"""What holds for every test."""

from hypothesis import HealthCheck, settings

# A busy machine makes no test fail. With CI=true the examples are the same each time.
settings.register_profile("default", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile(
    "ci", settings.get_profile("ci"), suppress_health_check=[HealthCheck.too_slow]
)
