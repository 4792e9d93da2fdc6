"""Messages and sockets between client and server."""
