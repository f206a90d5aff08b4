"""The words both sides share: messages, limits, ids and errors, without any I/O."""
