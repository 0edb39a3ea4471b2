"""What `llm-budget doctor` asks the parts of a running loop, and how it judges their answers."""
