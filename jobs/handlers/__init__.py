"""Task types: each a function, an input schema and one decorator."""
