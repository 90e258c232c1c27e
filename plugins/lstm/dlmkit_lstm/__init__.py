"""Long short-term memory: the model, the record of its gates, and the task that trains it on characters."""
