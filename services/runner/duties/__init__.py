"""What a runner does in the background; each duty is one file."""
