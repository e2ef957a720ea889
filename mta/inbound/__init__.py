"""Reception: listener, ESMTP factory, protocol adapter, session, submission fixes."""
