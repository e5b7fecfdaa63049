"""gRPC services of the monitor."""
