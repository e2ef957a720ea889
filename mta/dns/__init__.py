"""Names and mail exchangers."""
