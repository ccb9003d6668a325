"""Floor 3. Lookup tables: one interface, one small module a type, imported when a table of that type is opened."""
