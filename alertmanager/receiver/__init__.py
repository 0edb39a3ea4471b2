"""The degradation receiver: Alertmanager's webhook in, the scraper's effective config out."""
