"""Floor 1. main.cf: its language, its parameters' declarations, and their values."""
