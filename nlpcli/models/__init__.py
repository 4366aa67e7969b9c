"""Models made of the common parts, and the folder a trained one lives in."""
