"""Errors shown to people."""


class UserError(Exception):
    """A problem the operator can mend: one sentence that names the thing and says what to do."""


def words(error: Exception) -> str:
    """What an error says, without the path that the sentence around it names."""
    return getattr(error, "strerror", None) or str(error)
