"""Floor 6. How roles talk: one module a service with its types, its interface and its stub."""
