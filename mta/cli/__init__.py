"""The mta command: a face of admin."""
