"""Model endpoints: one interface, the OpenAI-compatible one over httpx, and one that needs no network."""
