"""The fast path of the transformer on a GPU: fused kernels, one plan of indices per mask, no host synchronisation."""
