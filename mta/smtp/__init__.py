"""The SMTP protocol without I/O: server and client engines, lines, commands, parameters (RFC 5321)."""
