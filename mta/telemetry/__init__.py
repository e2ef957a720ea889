"""Event log and metrics."""
