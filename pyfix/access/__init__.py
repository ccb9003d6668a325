"""Floor 7. The SMTP server's policy: who may send what to whom. Pure decisions."""
