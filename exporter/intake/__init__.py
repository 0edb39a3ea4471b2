"""Usage events on their way in: validated, bounded, told apart by reason."""
