"""One run from its configuration to its records: resolve, prepare, execute, publish."""
