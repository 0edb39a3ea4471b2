"""What both services and the command share; it imports nothing else of ours."""
