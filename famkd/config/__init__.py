"""Recipes: their fields, how files and flags become one, and what is refused."""
