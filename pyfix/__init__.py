"""pyfix: Postfix's architecture on systemd's foundations. ARCHITECTURE.md shows the floors."""
