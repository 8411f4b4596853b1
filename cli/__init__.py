"""The command line `pressroom`: a client of the HTTP API, and what an operator does on the machine itself."""
