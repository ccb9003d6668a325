"""Floor 1. Sans-IO protocol machines: bytes in, events out. No sockets, no clocks, no logging."""
