"""Floor 2. The only floor that touches sockets, files, signals, users, clocks, journald and systemd."""
