"""The parameter server and its client: frames, sockets and session security. Only NumPy and the standard library."""
