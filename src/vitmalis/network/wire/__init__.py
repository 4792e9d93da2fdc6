"""The wire between client and server: messages, their payloads, sockets and keys."""
