"""Floor 1. Mail's values: addresses, headers, DSN status codes, dates. Pure."""
