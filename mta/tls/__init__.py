"""TLS contexts, built directly."""
