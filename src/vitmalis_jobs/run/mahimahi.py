"""`link=mahimahi`: the client inside Mahimahi's shells, with the same trace as the relay would play.

R. Netravali et al., "Mahimahi: Accurate Record-and-Replay for HTTP", USENIX ATC 2015. The paper's own link; it needs
Linux, network namespaces and a user who is not root.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from vitmalis.errors import UserError
from vitmalis.network.traces import Trace, save_mahimahi
from vitmalis.network.wire.security import is_local
from vitmalis_jobs.run.config import ServerOptions

TOOLS = ("mm-delay", "mm-link")
DOWNLINK_PER_MS = 83
"""Delivery opportunities of 1504 bytes each millisecond: 1 Gbps, so that only the uplink is a bottleneck."""


def check(server: ServerOptions) -> None:
    """Check that Mahimahi is installed and that the client can reach the server through it.

    Raises:
        UserError: Mahimahi is not installed, or the server would not be seen from inside its namespace.
    """
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if missing:
        raise UserError(
            f"link=mahimahi: {' and '.join(missing)} not found; install Mahimahi (Debian and Ubuntu: apt install "
            "mahimahi; then sysctl -w net.ipv4.ip_forward=1), or take link=emulated, which needs nothing"
        )
    if server.spawn and is_local(server.address):
        raise UserError(
            f"link=mahimahi: from inside its network namespace server.address={server.address} cannot be reached; use "
            "server.address=tcp://0.0.0.0:0 with server.keys and client.keys, or with server.insecure=true"
        )


def shell(trace: Trace, directory: Path) -> tuple[str, ...]:
    """The command inside which the client sees the trace's uplink; its files go to `directory`.

    Both delays are constant in Mahimahi, so each way takes half of the mean round-trip time, in whole milliseconds.
    """
    up, down = directory / "up.mahimahi", directory / "down.mahimahi"
    save_mahimahi(trace, up)
    down.write_text("1\n" * DOWNLINK_PER_MS)
    delay_ms = round(trace.mean_rtt_ms() / 2)
    return "mm-delay", str(delay_ms), "mm-link", str(up), str(down), "--"


def inside(address: str) -> str:
    """The address of a server of this machine as seen from inside; the outermost shell sets the variable."""
    if address.startswith("tcp://0.0.0.0:"):
        return f"tcp://$MAHIMAHI_BASE:{address.rpartition(':')[2]}"
    return address
