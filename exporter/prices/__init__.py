"""What a token costs: price lists by model, date and time of day."""
