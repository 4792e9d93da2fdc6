"""Everything but objects: sky, ground, ceiling, shadows, glowing lamps, rain and sensor noise."""

from __future__ import annotations

from collections.abc import Iterable

import cv2
import numpy as np

from vitmalis.video.standin import textures
from vitmalis.video.standin.profiles import Profile
from vitmalis.video.standin.textures import GROUND_X_M, PX_PER_M, Image
from vitmalis.video.standin.view import Canvas, View, clip_near
from vitmalis.video.standin.world import NO_OBJECT, PlacedActor

_LIGHT_PX_PER_M = 4
_LIGHT_Z_M = 25.0


class Atmosphere:
    """Light, weather, ground and sensor of one scene."""

    def __init__(self, profile: Profile, rng: np.random.Generator, width: int, height: int, focal_px: float) -> None:
        self._profile = profile
        self.exposure = float(rng.uniform(*profile.exposure))
        side, elevation = rng.choice([-1.0, 1.0]), rng.uniform(0.5, 1.1)
        azimuth = rng.uniform(-0.9, 0.6)
        sun = np.array(
            [side * np.cos(azimuth) * np.cos(elevation), np.sin(elevation), np.sin(azimuth) * np.cos(elevation)]
        )
        self._sun = sun.astype(np.float32)
        self._gain = rng.uniform(0.96, 1.04, 3)
        self._noise_level = float(rng.uniform(4, 9) if profile.night else rng.uniform(1.0, 3.5))
        self._softness = float(rng.uniform(0.45, 0.9))
        self._ground = _levels(
            textures.ground(
                rng, profile.strips, profile.lines, slabs=profile.motion != "drive" and profile.camera_x != 1.3
            )
        )
        self._ceiling = _levels(_ceiling(rng)) if profile.indoor else []
        self._light = self._light_map(rng)
        self._panorama = self._sky(rng, width, height)
        self._headlights = self._headlight_map(width, height) if profile.night and profile.motion == "drive" else None
        noise = rng.normal(0, self._noise_level, (height + 64, width + 64, 1)) + rng.normal(
            0, self._noise_level / 2, (height + 64, width + 64, 3)
        )
        self._sensor = cv2.GaussianBlur(noise.astype(np.float32), (3, 3), 0.6).astype(np.int8)

    def canvas(self, view: View) -> Canvas:
        """A canvas with sky, ground and, indoors, the ceiling."""
        p = self._profile
        haze = tuple(float(c) for c in p.haze[0])
        canvas = Canvas(
            view, self._paint_sky(view), np.zeros((view.height, view.width), np.uint8), (haze, p.haze[1]),  # type: ignore[arg-type]
            self._sun, p.ambient, self.exposure, 1.6 if self._headlights is not None else 0.0,
        )  # fmt: skip
        self._paint_level(canvas, self._ground, 0.0)
        if self._ceiling:
            self._paint_level(canvas, self._ceiling, 4.2)
        return canvas

    def _sky(self, rng: np.random.Generator, width: int, height: int) -> Image:
        """A panorama (height, 2 * width) whose last row is the horizon, with clouds and a skyline."""
        horizon, zenith = (np.array(c, np.float32) for c in self._profile.sky)
        up = np.linspace(1, 0, height, dtype=np.float32)[:, None, None]
        sky = horizon + (zenith - horizon) * up ** rng.uniform(0.5, 0.9) + np.zeros((height, 2 * width, 3), np.float32)
        noise = cv2.resize(textures.crop_noise(rng, 300, 512, 1.3), (2 * width, height))
        amount = 0.1 if self._profile.night else rng.uniform(0.2, 1.0)
        clouds = np.clip(noise * 0.8 + rng.uniform(-0.5, 0.4), 0, 1)[..., None] * amount
        sky += clouds * (np.array([250, 250, 250], np.float32) * (0.25 if self._profile.night else 1) - sky) * 0.8
        x = 0
        while x < 2 * width:
            w, h = int(rng.integers(14, 70)), min(int(rng.integers(6, 60)), height // 3)
            tone = horizon * rng.uniform(0.62, 0.9) + rng.uniform(-8, 8, 3)
            sky[height - h :, x : x + w] = tone
            if self._profile.night:
                lit = rng.random((h // 4 + 1, w // 4 + 1)) < 0.12
                glow = cv2.resize(lit.astype(np.float32), (w, h), interpolation=cv2.INTER_NEAREST)[:, : 2 * width - x]
                sky[height - h :, x : x + w] += glow[..., None] * np.array([120, 96, 60], np.float32)
            x += w
        ridge = np.cumsum(rng.normal(0, 1.2, 2 * width))
        ridge = (
            8
            + 14 * (ridge - ridge.min()) / max(np.ptp(ridge), 1e-6)
            + 3 * textures.crop_noise(rng, 1, 2 * width, 0.5)[0]
        )
        trees = np.arange(height)[:, None] > height - ridge
        sky = np.where(
            trees[..., None], horizon * np.array([0.5, 0.58, 0.45], np.float32) * (1 + 0.1 * noise[..., None]), sky
        )
        return np.clip(sky, 0, 255).astype(np.uint8)

    def _paint_sky(self, view: View) -> Image:
        yaw = float(np.arctan2(view.rotation[2, 0], view.rotation[2, 2]))
        roll = float(np.arctan2(view.rotation[0, 1], -view.rotation[1, 1]))
        turn = cv2.getRotationMatrix2D((view.width / 2, view.height / 2), -np.degrees(roll), 1.0)
        shift = np.array(
            [[1, 0, -view.width / 2 - yaw * view.focal_px], [0, 1, view.horizon_y() - view.height], [0, 0, 1]]
        )
        return cv2.warpAffine(self._panorama, turn @ shift, (view.width, view.height), borderMode=cv2.BORDER_REPLICATE)

    def _light_map(self, rng: np.random.Generator) -> Image:
        """Brightness of the ground, 128 = 1: blotches, and at night a pool of light under every lamp."""
        h, w = round(_LIGHT_Z_M * _LIGHT_PX_PER_M), round(GROUND_X_M * _LIGHT_PX_PER_M)
        light = 128 * (1 + 0.06 * cv2.resize(textures.fractal_noise(128, 5), (w, h)))
        if self._profile.night:
            z, x = np.mgrid[0:h, 0:w] / _LIGHT_PX_PER_M
            light *= 0.7
            for lane in self._profile.lanes:
                if lane.what == "lamp":
                    dz = np.minimum(z, _LIGHT_Z_M - z)
                    light += 220 * np.exp(-(((x - GROUND_X_M / 2 - lane.x_m * 0.75) / 4) ** 2 + (dz / 5) ** 2))
        elif not self._profile.indoor and not self._profile.rain and rng.random() < 0.7:
            reach = rng.uniform(2, 9)
            columns = slice(0, round((GROUND_X_M / 2 + self._profile.walls[0] + reach) * _LIGHT_PX_PER_M))
            if self._sun[0] > 0:
                columns = slice(round((GROUND_X_M / 2 + self._profile.walls[1] - reach) * _LIGHT_PX_PER_M), w)
            light[:, columns] *= 0.55
        return np.clip(light, 0, 255).astype(np.uint8)

    @staticmethod
    def _headlight_map(width: int, height: int) -> Image:
        y, x = np.mgrid[0:height, 0:width].astype(np.float32)
        beam = np.exp(-(((x - width / 2) / (0.22 * width)) ** 2) - ((y - 0.66 * height) / (0.16 * height)) ** 2)
        return (230 * beam).astype(np.uint8)

    def _paint_level(self, canvas: Canvas, levels: list[Image], y_m: float) -> None:
        """Paint the plane at height y_m below (or, when above the camera, over) the horizon."""
        view = canvas.view
        drop = float(view.position[1]) - y_m
        tilt = abs(float(view.rotation[0, 1])) * view.width / 2
        horizon = view.horizon_y()
        edge = int(np.clip(horizon - np.sign(drop) * tilt, 0, view.height))
        offsets = [(PX_PER_M * abs(drop) * view.focal_px**0.5 / 2**k) ** (2 / 3) for k in range(len(levels) - 1)]
        image = canvas.image
        side = 1 if drop > 0 else -1
        limits = [
            view.height if drop > 0 else 0,
            *(int(np.clip(horizon + side * o, 0, view.height)) for o in offsets),
            edge,
        ]
        plane = np.zeros_like(image)
        for level, texture in enumerate(levels):
            rows = slice(*sorted((limits[level], limits[level + 1])))
            if rows.stop > rows.start:
                self._warp_rows(view, texture, y_m, PX_PER_M / 2**level, textures.GROUND_Z_M, plane[rows], rows.start)
        light = np.zeros(image.shape[:2], np.uint8)
        rows = slice(*sorted((limits[0], edge)))
        if rows.stop <= rows.start:
            return
        self._warp_rows(view, self._light, y_m, _LIGHT_PX_PER_M, _LIGHT_Z_M, light[rows], rows.start)
        part: Image = light[rows]
        if self._headlights is not None:
            part = cv2.add(part, self._headlights[rows])
        lit = cv2.multiply(plane[rows], cv2.merge([part, part, part]), scale=self.exposure / 128)
        self._blend_plane(canvas, lit, rows, y_m)

    @staticmethod
    def _warp_rows(
        view: View,
        texture: Image,
        y_m: float,
        px_per_m: float,
        period_m: float,
        out: Image,
        top: int,
    ) -> None:
        z0 = np.floor(view.position[2] / period_m) * period_m
        origin = np.array([-GROUND_X_M / 2, y_m, z0])
        h = view.plane(origin, np.array([1 / px_per_m, 0, 0]), np.array([0, 0, 1 / px_per_m]))
        h = np.array([[1, 0, 0], [0, 1, -top], [0, 0, 1.0]]) @ h
        cv2.warpPerspective(texture, h, out.shape[1::-1], dst=out, borderMode=cv2.BORDER_WRAP)

    def _blend_plane(self, canvas: Canvas, lit: Image, rows: slice, y_m: float) -> None:
        """Fade the plane with distance, and keep the sky above the tilted horizon."""
        view = canvas.view
        ys = (np.arange(rows.start, rows.stop, dtype=np.float32) + 0.5 - view.height / 2) / view.focal_px
        xs = (np.arange(view.width, dtype=np.float32) + 0.5 - view.width / 2) / view.focal_px
        up = view.rotation[:, 1]
        fall = -(up[0] * xs[None] + up[1] * ys[:, None] + up[2])  # metres down for one metre ahead
        depth = (float(view.position[1]) - y_m) / np.where(np.abs(fall) < 1e-4, 1e-4, fall)
        fade = np.exp(-np.clip(depth, 0, None) / canvas.haze[1]).astype(np.float32)
        colour = np.empty_like(lit)
        colour[:] = np.array(canvas.haze[0])
        mixed = cv2.blendLinear(lit, colour, fade, 1 - fade)
        cv2.copyTo(mixed, (depth > 0).astype(np.uint8), canvas.image[rows])

    def paint_shadows(self, canvas: Canvas, actors: Iterable[PlacedActor]) -> None:
        """Darken the ground under all actors and, in the sun, next to them."""
        view = canvas.view
        mask = np.zeros((view.height // 2, view.width // 2), np.uint8)
        sunny = self._profile.ambient < 0.6
        for placed in actors:
            actor, position, heading = placed.actor, placed.position, placed.actor.heading
            half = getattr(actor.appearance, "half", (0.1, 0.1) if actor.label == NO_OBJECT else (0.2, 0.16))
            c, s = np.cos(heading), np.sin(heading)
            base = np.array(
                [
                    (a * half[0] * c + b * half[1] * s, b * half[1] * c - a * half[0] * s)
                    for a in (-1, 1)
                    for b in (-1, 1)
                ]
            )
            if sunny:
                length = -self._sun[[0, 2]] * actor.height_m / self._sun[1]
                base = np.concatenate([base, base + length])
            hull = cv2.convexHull(base.astype(np.float32))[:, 0]
            world = np.stack([hull[:, 0] + position[0], np.full(len(hull), 0.01), hull[:, 1] + position[2]], 1)
            polygon = clip_near(view.to_camera(world.astype(np.float32)))
            if len(polygon) >= 3:
                uv = np.clip(view.to_pixels(polygon) * 8, -2e8, 2e8).astype(np.int32)
                cv2.fillPoly(mask, [uv], 255, cv2.LINE_8, 4)
        soft = cv2.GaussianBlur(mask, (0, 0), 1.5 if sunny else 4.0)
        gain = cv2.convertScaleAbs(cv2.resize(soft, (view.width, view.height)), alpha=-0.55 if sunny else -0.5, beta=0)
        gain = cv2.subtract(np.full_like(gain, 255), gain)
        canvas.image = cv2.multiply(canvas.image, cv2.merge([gain, gain, gain]), scale=1 / 255)

    def finish(self, canvas: Canvas, frame_index: int) -> Image:
        """Add rain, reflections, glow, lens blur and sensor noise; return the final image."""
        p, view, image = self._profile, canvas.view, canvas.image
        if p.rain:
            image = self._wet(canvas, frame_index)
        if canvas.lights:
            image = _glow(image, canvas)
        image = cv2.GaussianBlur(image, (3, 3), self._softness)
        rng = np.random.default_rng(frame_index)
        y, x = rng.integers(0, 64, 2)
        noise = self._sensor[y : y + view.height, x : x + view.width]
        image = cv2.add(image, noise, dtype=cv2.CV_8U)
        table = np.clip(np.arange(256)[:, None] * self._gain, 0, 255).astype(np.uint8).reshape(1, 256, 3)
        return cv2.LUT(image, table)

    def _wet(self, canvas: Canvas, frame_index: int) -> Image:
        """Add reflections on the wet ground, and falling rain."""
        image, horizon = canvas.image, int(np.clip(canvas.view.horizon_y(), 1, canvas.view.height - 1))
        rows = min(horizon, canvas.view.height - horizon)
        above = cv2.resize(image[horizon - rows : horizon], None, fx=0.25, fy=0.25, interpolation=cv2.INTER_AREA)
        mirror = cv2.resize(cv2.blur(above[::-1], (3, 9)), (image.shape[1], rows))
        ground = image[horizon : horizon + rows]
        free = (canvas.owners[horizon : horizon + rows] == 0).astype(np.uint8)
        cv2.copyTo(cv2.addWeighted(ground, 0.74, mirror, 0.26, -8), free, ground)
        streaks = textures.rain_streaks(*image.shape[:2])
        step = (frame_index * 151) % image.shape[0], (frame_index * 67) % image.shape[1]
        drops = np.roll(streaks, step, (0, 1))
        return cv2.add(image, cv2.merge([drops, drops, drops]))


def _levels(image: Image) -> list[Image]:
    """A periodic texture at full, half, quarter and eighth size."""
    levels = [image]
    for _ in range(3):
        h, w = levels[-1].shape[:2]
        levels.append(cv2.resize(levels[-1], (w // 2, h // 2), interpolation=cv2.INTER_AREA))
    return levels


def _ceiling(rng: np.random.Generator) -> Image:
    """Texture of a ceiling: panels with rows of lamps, of the size of a ground tile."""
    h, w = round(textures.GROUND_Z_M * PX_PER_M), round(GROUND_X_M * PX_PER_M)
    image = np.clip(
        (1 + 0.02 * textures.crop_noise(rng, h, w))[..., None] * rng.uniform(150, 200) * np.array([1.0, 0.97, 0.92]),
        0,
        255,
    )
    cell = round(1.2 * PX_PER_M)
    image[::cell] *= 0.8
    image[:, ::cell] *= 0.8
    step = cell * int(rng.integers(2, 5))
    for y in range(0, h, step):
        for x in range(w // 2 % cell, w, 3 * cell):
            cv2.rectangle(image, (x + 4, y + 4), (x + cell - 4, y + cell - 4), (255, 252, 240), cv2.FILLED)
    return image.astype(np.uint8)


def _glow(image: Image, canvas: Canvas) -> Image:
    """Add the light of visible lamps, with the bloom of the lens."""
    view = canvas.view
    small = np.zeros((view.height // 4, view.width // 4, 3), np.uint8)
    for light in canvas.lights:
        x, y = round(float(light.uv[0])), round(float(light.uv[1]))
        if not (0 <= x < view.width and 0 <= y < view.height) or canvas.owners[y, x] != light.owner:
            continue
        cv2.circle(image, (x, y), max(1, round(light.radius_px)), light.colour, cv2.FILLED, cv2.LINE_AA)
        cv2.circle(small, (x // 4, y // 4), max(1, round(light.radius_px * 0.45)), light.colour, cv2.FILLED)
    bloom = cv2.addWeighted(cv2.GaussianBlur(small, (0, 0), 2.0), 0.7, cv2.GaussianBlur(small, (0, 0), 7.0), 1.3, 0)
    return cv2.add(image, cv2.resize(bloom, (view.width, view.height)))
