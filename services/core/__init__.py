"""Pure: what a workflow means and what an execution does next. No I/O, clock, randomness, logging or protobuf."""
