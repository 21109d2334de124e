"""What a sweep shows: live lines, states, and the tables at its end."""
