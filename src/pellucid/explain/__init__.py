"""What happens inside: hand-made filters, and later the arithmetic, the maps and the reasons of a network."""
