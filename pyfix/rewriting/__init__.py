"""Floor 7. Addresses in standard form, and where an address is to be delivered."""
