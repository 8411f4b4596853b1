"""Break everything, while it works, and see that nothing is lost: `python -m tests.gauntlet`."""
