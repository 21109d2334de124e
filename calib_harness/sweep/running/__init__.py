"""One run: a process of its own, followed, ended, and told apart from its failures."""
