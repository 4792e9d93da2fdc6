"""ViTMAlis: latency-critical mobile video analytics with mixed-resolution vision transformers.

The package is a library without any framework: neither Hydra nor MLflow. The jobs that use both are in `vitmalis_jobs`.
"""

__version__ = "0.1.0"
