"""The filter language: which tasks are meant, the same for commands, the API and the console."""
