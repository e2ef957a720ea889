"""The spool: what is accepted is here, durable, until every recipient is terminal. contract.py says what a backend must do."""
