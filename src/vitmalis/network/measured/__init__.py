"""Assembly of the sixty measured traces from published data sets: `python -m vitmalis.network.fetch`."""
