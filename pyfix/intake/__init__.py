"""Floor 7. From a message as it was received to a queue file's contents."""
