"""The local tracker: carries boxes from the frame a result belongs to, to the frame on screen."""

from vitmalis.tracker.optical_flow import OpticalFlowTracker, TrackerOptions

__all__ = ["OpticalFlowTracker", "TrackerOptions"]
