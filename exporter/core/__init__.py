"""What both services share; the receiver imports nothing else of the exporter."""
