"""Features of any model by module path."""
