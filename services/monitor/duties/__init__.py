"""Background duties of the monitor, one file each."""
