"""Where a sweep's files stand, and what they are called."""
