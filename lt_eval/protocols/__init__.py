"""The evaluation protocols, as recipes to read from top to bottom."""
