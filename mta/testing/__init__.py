"""Furniture for tests of ours and of others."""
