"""Composition: builds the tree of services from the configuration; the only place that chooses backends."""
