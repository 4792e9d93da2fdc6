"""OpenCV itself refuses an image of more pixels than a packed frame can have, whatever the checks before it find."""

from __future__ import annotations

import os
import subprocess
import sys

from vitmalis.server.admission import decoder_environment

DECODE = """
import cv2, numpy as np
for side in (200, 201):
    _, data = cv2.imencode(".jpg", np.zeros((side, side, 3), np.uint8))
    try:
        print(cv2.imdecode(data, cv2.IMREAD_COLOR) is not None)
    except cv2.error:
        print(False)
"""


def test_opencv_refuses_larger_images() -> None:
    environment = os.environ | decoder_environment(100 * 100)
    done = subprocess.run([sys.executable, "-c", DECODE], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "False"]
