"""Numeric parity with the upstream ViTDet on its golden outputs."""
