"""The outside world in memory: for tests and simulations, with the promises of the real adapters."""
