"""degradation.yml and what it makes of a config."""
