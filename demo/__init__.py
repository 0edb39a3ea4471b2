"""A simulated scraper and provider, and the whole loop on a small budget."""
