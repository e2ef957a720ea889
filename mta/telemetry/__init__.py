"""What the house tells about itself: the event log (eventlog.py) and metrics (metrics.py, exposition.py)."""
