"""Floor 8. One command a file, with Postfix's names, output and exit codes."""
