"""The vocabulary of the house: addresses, envelopes, replies, outcomes, identifiers. Pure values, no I/O, no Twisted."""
