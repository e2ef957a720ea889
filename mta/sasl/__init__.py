"""SASL (RFC 4422): mechanisms, credentials, checkers, realm. Here twisted.cred meets SMTP.

mechanisms/ are pure. A new mechanism is one file there and one line in registry.py; a new password store is one file in
checkers/ and one line in authenticator.py.
"""
