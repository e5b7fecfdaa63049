"""The only place that speaks NATS. Subjects, stream and consumers are in `topology`."""
