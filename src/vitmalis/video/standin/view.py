"""The moving pinhole camera and the canvas on which its image is painted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

from vitmalis.video.standin.textures import Colour, Image

Points = NDArray[np.floating]
NEAR_M = 0.4
SCENERY = 255
"""Owner of pixels of walls, trees and street furniture (0: ground and sky)."""
_SHIFT = 4  # sub-pixel bits of OpenCV's polygons


@dataclass(frozen=True)
class View:
    """Camera pose and intrinsics. World: x right, y up, z along the street, metres; camera: x right, y down, z ahead.

    Attributes:
        position: (3,) metres.
        rotation: (3, 3), rows are the camera's axes in the world.
        focal_px: focal length in pixels.
        width, height: image size in pixels.
    """

    position: Points
    rotation: Points
    focal_px: float
    width: int
    height: int

    @classmethod
    def looking(
        cls, position: Points, yaw: float, pitch: float, roll: float, focal_px: float, size: tuple[int, int]
    ) -> View:
        """A camera turned right by yaw, up by pitch, clockwise by roll (radians); size is (width, height)."""
        ahead = np.array([np.sin(yaw) * np.cos(pitch), np.sin(pitch), np.cos(yaw) * np.cos(pitch)])
        right = np.array([np.cos(yaw), 0.0, -np.sin(yaw)])
        up = np.cross(ahead, right)
        right, up = np.cos(roll) * right - np.sin(roll) * up, np.sin(roll) * right + np.cos(roll) * up
        return cls(np.asarray(position, np.float32), np.stack([right, -up, ahead]).astype(np.float32), focal_px, *size)

    def to_camera(self, points: Points) -> Points:
        """World (..., 3) to camera coordinates (..., 3)."""
        return (points - self.position) @ self.rotation.T

    def to_pixels(self, camera_points: Points) -> Points:
        """Camera coordinates (..., 3) in front of the camera to pixels (..., 2)."""
        centre = np.array([self.width / 2, self.height / 2], np.float32)
        return np.asarray(camera_points[..., :2] * (self.focal_px / camera_points[..., 2:]) + centre, np.float32)

    def plane(self, origin: Points, step_s: Points, step_t: Points) -> NDArray[np.float64]:
        """Homography from texture pixels (s, t) of the plane origin + s * step_s + t * step_t to image pixels."""
        intrinsics = np.array([[self.focal_px, 0, self.width / 2], [0, self.focal_px, self.height / 2], [0, 0, 1.0]])
        columns = np.stack([step_s, step_t, np.asarray(origin) - self.position], 1)
        return intrinsics @ self.rotation.astype(np.float64) @ columns

    def horizon_y(self) -> float:
        """Row of the horizon at the image's centre column."""
        return self.height / 2 - self.focal_px * float(self.rotation[2, 1] / self.rotation[1, 1])


def clip_near(polygon: Points, near_m: float = NEAR_M) -> Points:
    """The part of a polygon (N, 3), camera coordinates, that lies beyond the near plane."""
    inside = polygon[:, 2] > near_m
    if inside.all() or not inside.any():
        return polygon[inside]
    out = []
    for a, b, a_in, b_in in zip(polygon, np.roll(polygon, -1, 0), inside, np.roll(inside, -1), strict=True):
        if a_in:
            out.append(a)
        if a_in != b_in:
            out.append(a + (b - a) * ((near_m - a[2]) / (b[2] - a[2])))
    return np.array(out, np.float32)


@dataclass
class Light:
    """A lamp that glows at night: pixel position, radius in pixels, colour, and number of its object (0: street)."""

    uv: Points
    radius_px: float
    colour: Colour
    owner: int


@dataclass
class Canvas:
    """An image that is being painted, with the owner of every pixel.

    Attributes:
        view: the camera.
        image: RGB uint8 (H, W, 3).
        owners: uint8 (H, W), 0 for the street, else the number of the visible object.
        haze: colour of the haze, and the distance in metres at which it covers 63 %.
        sun: unit vector towards the sun; `ambient` is its share of light on faces turned away.
        exposure: factor on the brightness of every surface.
        beam: brightness that the camera's own headlights add to near surfaces.
    """

    view: View
    image: Image
    owners: Image
    haze: tuple[Colour, float]
    sun: Points
    ambient: float
    exposure: float
    beam: float = 0.0
    lights: list[Light] = field(default_factory=list)
    owner: int = 0
    extent: list[float] = field(default_factory=list)

    def begin(self, owner: int) -> None:
        """Start to paint the object of this number."""
        self.owner = owner
        self.extent = [1e9, 1e9, -1e9, -1e9]

    def tones(self, colours: NDArray[np.float32], depth_m: float, shades: NDArray[np.float32] | float) -> list[Colour]:
        """Surface colours (K, 3) as the camera sees them at that distance; shades (K, 1) or one for all."""
        fade = float(np.exp(-depth_m / self.haze[1]))
        bright = self.exposure * (1 + self.beam * float(np.exp(-depth_m / 22)))
        seen = np.minimum(colours * (shades * bright), 255) * fade + np.array(self.haze[0], np.float32) * (1 - fade)
        return [(r, g, b) for r, g, b in seen.tolist()]

    def fill(self, polygons: Sequence[Points], colours: Sequence[Colour]) -> None:
        """Paint polygons (N, 2), pixels, one over the other, as parts of the current object."""
        points = np.concatenate(polygons)
        (x0, y0), (x1, y1) = points.min(0), points.max(0)
        if x1 < 0 or y1 < 0 or x0 >= self.view.width or y0 >= self.view.height:
            return
        e = self.extent
        self.extent = [min(e[0], float(x0)), min(e[1], float(y0)), max(e[2], float(x1)), max(e[3], float(y1))]
        fixed = np.clip(points * (1 << _SHIFT), -2e8, 2e8).astype(np.int32)
        start, image, owners, owner = 0, self.image, self.owners, self.owner
        for polygon, colour in zip(polygons, colours, strict=True):
            part = [fixed[start : start + len(polygon)]]
            start += len(polygon)
            cv2.fillPoly(image, part, colour, cv2.LINE_AA, _SHIFT)
            cv2.fillPoly(owners, part, owner, cv2.LINE_8, _SHIFT)

    def window(self) -> tuple[slice, slice]:
        """Rows and columns of the image that the current object may cover."""
        x0, y0, x1, y1 = self.extent
        rows = slice(int(np.clip(y0, 0, self.view.height)), int(np.clip(np.ceil(y1) + 1, 0, self.view.height)))
        return rows, slice(int(np.clip(x0, 0, self.view.width)), int(np.clip(np.ceil(x1) + 1, 0, self.view.width)))

    def grain(self, noise: NDArray[np.float32]) -> None:
        """Give the current object a texture and darken it towards the ground; noise (64, 64) around 1."""
        rows, columns = self.window()
        mine = self.owners[rows, columns] == self.owner
        if mine.size < 500:
            return
        gain: Image = cv2.resize(noise, mine.shape[::-1], interpolation=cv2.INTER_LINEAR)
        gain *= np.linspace(1.08, 0.85, mine.shape[0], dtype=np.float32)[:, None]
        shaded = cv2.multiply(self.image[rows, columns], cv2.merge([gain, gain, gain]), dtype=cv2.CV_8U)
        cv2.copyTo(shaded, mine.astype(np.uint8), self.image[rows, columns])

    def _add_haze(self, image: Image, share: float) -> Image:
        """Add this share of the haze's colour."""
        r, g, b = self.haze[0]
        return cv2.add(image, (r * share, g * share, b * share, 0.0))  # type: ignore[call-overload]

    def wall(self, texture_levels: list[Image], origin: Points, along: Points, up: Points, shade: float) -> None:
        """Paint a texture on the parallelogram of origin, along and up (world, metres), its bottom row down."""
        corners = np.stack([origin, origin + along, origin + along + up, origin + up])
        polygon = clip_near(self.view.to_camera(corners))
        if len(polygon) < 3:
            return
        uv = self.view.to_pixels(polygon)
        x0, y0 = np.floor(np.clip(uv.min(0), 0, [self.view.width, self.view.height])).astype(int)
        x1, y1 = np.ceil(np.clip(uv.max(0), 0, [self.view.width, self.view.height])).astype(int)
        if x1 - x0 < 1 or y1 - y0 < 1:
            return
        depth = float(polygon[:, 2].mean())
        level = int(np.clip(np.log2(max(1.0, 26 * depth / self.view.focal_px * 0.8)), 0, len(texture_levels) - 1))
        texture = texture_levels[level]
        h, w = texture.shape[:2]
        homography = self.view.plane(origin + up, along / w, -up / h)
        homography = np.array([[1, 0, -x0], [0, 1, -y0], [0, 0, 1.0]]) @ homography
        patch = cv2.warpPerspective(texture, homography, (int(x1 - x0), int(y1 - y0)), borderMode=cv2.BORDER_REPLICATE)
        fade = float(np.exp(-depth / self.haze[1]))
        patch = cv2.convertScaleAbs(patch, alpha=fade * shade)
        patch = self._add_haze(patch, 1 - fade)
        mask = np.zeros(patch.shape[:2], np.uint8)
        outline = ((uv - [x0, y0]) * (1 << _SHIFT)).clip(-2e8, 2e8).astype(np.int32)
        cv2.fillPoly(mask, [outline], SCENERY, cv2.LINE_8, _SHIFT)
        cv2.copyTo(mask, mask, self.owners[y0:y1, x0:x1])
        cv2.copyTo(patch, mask, self.image[y0:y1, x0:x1])

    def sprite(self, rgba: Image, foot: Points, height_m: float) -> None:
        """Paint an upright RGBA image whose foot is at a world position."""
        camera = self.view.to_camera(foot)
        if camera[2] < 1.5:
            return
        u, v = self.view.to_pixels(camera)
        scale = self.view.focal_px * height_m / float(camera[2]) / rgba.shape[0]
        w, h = round(rgba.shape[1] * scale), round(rgba.shape[0] * scale)
        left, top = round(float(u) - w / 2), round(float(v) - h)
        x0, y0 = max(left, 0), max(top, 0)
        x1, y1 = min(left + w, self.view.width), min(top + h, self.view.height)
        if x1 - x0 < 2 or y1 - y0 < 2:
            return
        matrix = np.array([[scale, 0, left - x0], [0, scale, top - y0]])
        if scale < 0.5:
            rgba = cv2.resize(rgba, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
            matrix[:, :2] *= 2
        patch = cv2.warpAffine(rgba, matrix, (x1 - x0, y1 - y0))
        fade = float(np.exp(-camera[2] / self.haze[1]))
        colour = cv2.convertScaleAbs(patch[..., :3], alpha=fade * self.exposure)
        colour = self._add_haze(colour, 1 - fade)
        weight = patch[..., 3].astype(np.float32) / 255
        target = self.image[y0:y1, x0:x1]
        target[:] = cv2.blendLinear(colour, target, weight, 1 - weight)
        self.owners[y0:y1, x0:x1][patch[..., 3] > 128] = SCENERY
