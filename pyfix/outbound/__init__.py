"""Floor 7. The SMTP client's decisions: which hosts to try, what a reply means for each recipient."""
