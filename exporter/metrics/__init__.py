"""The page /metrics: the ledger's families as cached text, everything else by prometheus_client."""
