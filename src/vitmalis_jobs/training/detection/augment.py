"""Augmentation of one image on the CPU, with OpenCV: views are cut and distorted; nothing here is random.

`device_augment` does the same to batches on a GPU.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from vitmalis.codec.jpeg import decode_jpeg, encode_jpeg
from vitmalis.types import RgbImage
from vitmalis_jobs.training.detection.distortion import Distortion
from vitmalis_jobs.training.detection.views import View

PAD_VALUE = 114
"""Grey value of pixels outside the frame."""
ALIASED_SCALE = 0.75
"""Scale below which a frame is blurred before it is shrunk, as bilinear sampling would alias."""
SHRINK_BLUR = 0.4
"""Standard deviation of that blur, in pixels of the view."""


def cut(image: RgbImage, view: View) -> RgbImage:
    """Cut a view out of a frame; pixels outside the frame are `PAD_VALUE`."""
    return _cut(image, view, cv2.INTER_LINEAR, PAD_VALUE)


def cut_objects(objects: NDArray[np.uint8], view: View) -> NDArray[np.uint8]:
    """Cut a view out of a map of objects (H, W); there is no object (0) outside the frame."""
    return _cut(objects, view, cv2.INTER_NEAREST, 0)


def _cut(image: NDArray[np.uint8], view: View, interpolation: int, outside: int) -> NDArray[np.uint8]:
    height, width = image.shape[:2]
    x0, y0 = max(0, int(view.x_px)), max(0, int(view.y_px))
    x1 = min(width, int(np.ceil(view.x_px + view.width_px / view.scale)) + 1)
    y1 = min(height, int(np.ceil(view.y_px + view.height_px / view.scale)) + 1)
    window: np.ndarray = image[y0:y1, x0:x1]
    if view.scale < ALIASED_SCALE and interpolation == cv2.INTER_LINEAR:
        window = cv2.GaussianBlur(window, (0, 0), SHRINK_BLUR / view.scale)
    half = 0.5 / view.scale - 0.5
    matrix = np.array(
        [
            [1 / view.scale, 0, view.x_px - x0 + half],
            [0, 1 / view.scale, view.y_px - y0 + half],
        ]
    )
    out: np.ndarray = cv2.warpAffine(
        window,
        matrix,
        (view.width_px, view.height_px),
        flags=interpolation | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    ).astype(np.uint8, copy=False)
    right = int(np.ceil((width - view.x_px) * view.scale))
    below = int(np.ceil((height - view.y_px) * view.scale))
    out[:, max(0, right) :] = outside
    out[max(0, below) :] = outside
    out[:, : max(0, int(-view.x_px * view.scale))] = outside
    out[: max(0, int(-view.y_px * view.scale))] = outside
    return np.ascontiguousarray(out[:, ::-1]) if view.flip else out


def distort(image: RgbImage, distortion: Distortion) -> RgbImage:
    """Apply a distortion to an image."""
    out: np.ndarray = image.astype(np.float32) / 255
    if (distortion.contrast, distortion.gain) != (1, 1):
        mean = out.mean()
        out = ((out - mean) * np.float32(distortion.contrast) + mean) * np.float32(distortion.gain)
    out = _coloured(out, distortion).clip(0, 1)
    if distortion.gamma != 1:
        out = out ** np.float32(distortion.gamma)
    if distortion.dimming != 1:
        out = out * np.float32(distortion.dimming)
    if distortion.blur_px:
        out = cv2.GaussianBlur(out, (0, 0), distortion.blur_px)
    if distortion.noise:
        rng = np.random.default_rng(distortion.noise_seed)
        out = out + np.float32(distortion.noise) * rng.standard_normal((*out.shape[:2], 1), np.float32)
    coded = (out.clip(0, 1) * 255).round().astype(np.uint8)
    if not distortion.jpeg_quality:
        return coded
    return decode_jpeg(encode_jpeg(coded, distortion.jpeg_quality), coded.shape[0] * coded.shape[1])


def _coloured(image: np.ndarray, distortion: Distortion) -> np.ndarray:
    """Apply the cast and the saturation of a distortion to a float image."""
    if distortion.cast != (1, 1, 1):
        image = image * np.array(distortion.cast, np.float32)
    if distortion.saturation != 1:
        grey = image.mean(2, keepdims=True)
        image = grey + (image - grey) * np.float32(distortion.saturation)
    return image
