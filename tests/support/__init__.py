"""What tests stand on: embedded servers, whole stacks of processes, a ledger of effects."""
