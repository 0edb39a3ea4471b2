"""What a scraper copies into its own program: the client and its optional parts."""
