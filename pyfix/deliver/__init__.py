"""Floor 7. Local delivery: Maildir and mbox, as the recipient."""
