"""Revisions, oldest first; each is SQL in a string. A released revision never changes."""
