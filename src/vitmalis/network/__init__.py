"""The network between a client and its server: uplink traces, link emulation, wire messages."""
