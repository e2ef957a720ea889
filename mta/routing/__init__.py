"""Which way an address goes: memory tables only, no DNS."""
