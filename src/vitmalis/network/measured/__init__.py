"""The sixty measured traces, made from the data sets their samples come from: `python -m vitmalis.network.fetch`."""
