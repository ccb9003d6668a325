"""Floor 8. One executable a file; main() wires, decisions live below. Roles never import each other."""
