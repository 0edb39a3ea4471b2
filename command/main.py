"""The llm-budget command: signals first, then the imports, which take half a second."""

import sys

from common import signals


def main(argv: list[str] | None = None) -> int:
    """Run a command in this process; its exit status."""
    from command import commands

    return commands.main(argv)


def entry() -> int:
    """The process of the command: SIGINT or SIGTERM ends it at any moment, without a traceback."""
    signals.end_at_once()
    from command import commands

    return signals.run(commands.main)


if __name__ == "__main__":
    sys.exit(entry())
