"""How the shipped catalogue was made, and how much a simplification of its reward matters."""
