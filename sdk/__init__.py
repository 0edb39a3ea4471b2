"""What a scraper copies into its own program: client.py, and two optional files."""
