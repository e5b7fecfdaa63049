"""The outside world: storage, bus, gRPC, clock, ids, configuration, logs, metrics. Stands on the core."""
