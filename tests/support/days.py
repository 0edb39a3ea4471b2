"""Instants and time zones in a test."""

from datetime import UTC, datetime

HOUR, DAY = 3600, 86_400
# Half hours, quarter hours, DST both ways, half-hour DST, 25 hours apart, a skipped date (Apia).
ZONES = (
    "UTC", "Europe/Berlin", "America/New_York", "America/Los_Angeles", "Asia/Tokyo",
    "Asia/Kolkata", "Asia/Kathmandu", "Australia/Lord_Howe", "America/Sao_Paulo",
    "America/St_Johns", "Pacific/Kiritimati", "Pacific/Pago_Pago", "Pacific/Apia",
)  # fmt: skip


def unix(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()
