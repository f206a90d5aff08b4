"""Programs that show Pillion at work; ``README.md`` tells what each one shows."""
