"""The llm-budget command: a subcommand is a function declared with @command of command.flags."""
