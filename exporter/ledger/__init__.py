"""The books: an embedded SQLite database with one writer, and its picture in memory."""
