"""Floor 7. Delivery status notifications (RFC 3464) and their text."""
