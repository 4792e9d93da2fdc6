"""ViTMAlis: latency-critical mobile video analytics with mixed-resolution vision transformers.

The package is a library: it knows nothing of Hydra or MLflow. The jobs that use it live beside it in
``evaluation/``, ``profiling/`` and ``training/``.
"""

__version__ = "0.1.0"
