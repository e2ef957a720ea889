"""TLS: contexts for servers and clients built directly on pyOpenSSL, certificates by name, channel bindings."""
