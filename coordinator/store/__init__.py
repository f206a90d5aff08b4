"""Durable, ordered key-value stores behind one small interface."""
