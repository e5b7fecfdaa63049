"""What a runner serves over gRPC."""
