"""SASL meets twisted.cred: mechanisms, credentials, checkers, the realm (RFC 4422, RFC 4954)."""
