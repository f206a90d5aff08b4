"""Spans of attempts, if they are asked for; nothing here is loaded otherwise."""
