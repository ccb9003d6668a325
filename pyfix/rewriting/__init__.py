"""Floor 7. Addresses: their standard form, their class, and where they are delivered."""
