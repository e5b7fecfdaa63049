"""Ours and the floor, measured in one run."""
