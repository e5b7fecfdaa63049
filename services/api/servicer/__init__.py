"""The public contract's methods: messages in, one call into the process, messages out."""
