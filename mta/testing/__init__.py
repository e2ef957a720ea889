"""Furniture for tests of ours and of others: docs/testing.md says what is here, and what for."""
