"""llm-budget exporter: exact books of LLM tokens and cost, published to Prometheus."""

__version__ = "0.2.0"
