"""The process beside each service, and the SDK that speaks to it."""
