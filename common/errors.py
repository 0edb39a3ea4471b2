"""Errors shown to people."""


class UserError(Exception):
    """A problem the operator can mend: one sentence that names the thing and says what to do."""
