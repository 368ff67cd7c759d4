"""The web edition of the series, and slides."""
