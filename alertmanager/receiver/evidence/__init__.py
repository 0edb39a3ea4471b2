"""What the receiver asks its sources, and what they answered."""
