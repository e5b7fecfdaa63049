"""The only place, beside the servicers, where generated messages are made and read."""
