"""Checks: one file each, every one `decide(facts, views) -> Decision`, without effects."""
