"""Models for other programs: what leaves Python and torch behind."""
