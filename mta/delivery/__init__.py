"""Delivery agents: the way out of the house."""
