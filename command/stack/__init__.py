"""The bundle as local processes: used by `llm-budget up`, the demo and the end-to-end tests."""
