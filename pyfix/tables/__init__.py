"""Floor 3. Lookup tables: the interface, and one small module a type, imported on demand."""
