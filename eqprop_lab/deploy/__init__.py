"""Models for other programs: as files that need no torch, and behind HTTP."""
