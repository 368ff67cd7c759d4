"""Checks and timings that need a device, registered by name in `checks`."""
