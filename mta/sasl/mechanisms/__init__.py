"""SASL mechanisms, one file each, pure: octets and values in, steps out. No Twisted, socket, clock, disk or randomness."""
