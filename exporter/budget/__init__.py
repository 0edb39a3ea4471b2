"""The budget's own days: calendars, zones, changes of them."""
