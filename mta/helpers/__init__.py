"""Small privileged programs of the standard library alone."""
