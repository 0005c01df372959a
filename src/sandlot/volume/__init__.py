"""Volumes as users name them: what is mounted where, and named volumes in the user's state."""
