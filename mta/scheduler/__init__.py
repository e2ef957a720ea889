"""Who goes next, when again, and what an attempt settles."""
