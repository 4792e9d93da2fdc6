"""The local tracker: moves the boxes of a result from its frame to the frame on screen."""

from vitmalis.tracker.optical_flow import OpticalFlowTracker, TrackerOptions

__all__ = ["OpticalFlowTracker", "TrackerOptions"]
