"""What /metrics says: ledger families as cached text, everything else by prometheus_client."""
