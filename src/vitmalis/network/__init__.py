"""The network between client and server: wire protocol, uplink traces, emulation of a traced link, measured traces."""
