"""Replay of a usage history through the real rule files, on a real Prometheus."""
