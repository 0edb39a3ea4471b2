"""The Alertmanager side: configuration, notification texts and the degradation receiver."""
