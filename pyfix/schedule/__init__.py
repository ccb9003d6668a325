"""Floor 7. The queue manager as a machine: events and the time in, actions out. No I/O."""
