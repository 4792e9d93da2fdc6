"""The edge server: receives compressed frames, detects objects in them, and answers with the detections."""
