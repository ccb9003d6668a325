"""Floor 4. DNS answers and what follows from them."""
