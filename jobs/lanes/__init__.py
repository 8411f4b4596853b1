"""Where handlers run besides the event loop: threads, and processes of their own."""
