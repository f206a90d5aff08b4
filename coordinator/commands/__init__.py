"""What operators ask of a coordinator from a shell. Each command asks the API, and nothing else."""
