"""Draws a face: a scene of reflectances built from soft-edged shapes.

Coordinates: x to the right and y down, the picture spans [-1, 1] in both; the face has its own frame, which is turned,
scaled and shifted by the pose. Colours are linear reflectances in [0, 1]. Hair, brows, eyes and clothes are drawn
independently of all attributes but age, so that no attribute gives away another.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Field = NDArray[np.floating[Any]]
Colour = tuple[float, float, float]

# Reflectance of skin, from the lightest to the darkest of the ten tones.
SKIN: tuple[Colour, ...] = (
    (0.86, 0.66, 0.55),
    (0.81, 0.60, 0.48),
    (0.75, 0.54, 0.41),
    (0.69, 0.47, 0.34),
    (0.61, 0.39, 0.27),
    (0.32, 0.19, 0.12),
    (0.26, 0.150, 0.095),
    (0.205, 0.116, 0.074),
    (0.160, 0.090, 0.058),
    (0.122, 0.069, 0.046),
)
_HAIR: tuple[Colour, ...] = (
    (0.03, 0.025, 0.02),
    (0.07, 0.04, 0.025),
    (0.14, 0.08, 0.04),
    (0.30, 0.19, 0.09),
    (0.48, 0.36, 0.18),
    (0.30, 0.10, 0.04),
    (0.10, 0.14, 0.30),
    (0.34, 0.10, 0.22),
)
_EYES: tuple[Colour, ...] = ((0.05, 0.03, 0.02), (0.12, 0.07, 0.03), (0.10, 0.16, 0.10), (0.12, 0.18, 0.28))
_FRAMES: tuple[Colour, ...] = ((0.02, 0.02, 0.02), (0.20, 0.05, 0.03), (0.05, 0.08, 0.25), (0.45, 0.42, 0.36))


@dataclass(frozen=True)
class Person:
    """What is seen of a person; everything but the five attributes is drawn at random.

    Attributes:
        tone_level: Index into SKIN.
        long: Long rather than round face.
        years: Age.
        glasses: Wears glasses.
        smiling: Smiles.
    """

    tone_level: int
    long: bool
    years: float
    glasses: bool
    smiling: bool


class _Canvas:
    """A square picture in linear light, with a frame of coordinates for whatever is drawn."""

    def __init__(self, size: int) -> None:
        axis = ((np.arange(size, dtype=np.float32) + 0.5) * (2 / size) - 1).astype(np.float32)
        self.x, self.y = np.meshgrid(axis, axis)
        # Colours come first: a plane at a time is three times faster than a pixel at a time.
        self.pixels: NDArray[np.float32] = np.zeros((3, size, size), dtype=np.float32)
        self.edge = np.float32(2.2 / size)

    def cover(self, distance: Field) -> Field:
        """Turn a signed distance (negative inside) into coverage in [0, 1] with a soft edge."""
        coverage: Field = np.clip(0.5 - distance / self.edge, 0, 1)
        return coverage

    def paint(self, coverage: Field, colour: Colour | NDArray[np.float32], opacity: float = 1.0) -> None:
        """Lays a colour (one, or [3, S, S]: one a pixel) over the covered part."""
        colours = np.asarray(colour, dtype=np.float32).reshape(3, *(self.x.shape if np.ndim(colour) == 3 else (1, 1)))
        weight = coverage * np.float32(opacity)
        self.pixels += weight * (colours - self.pixels)

    def shade(self, coverage: Field, factor: Colour | float) -> None:
        """Multiplies the covered part by a factor: on darker ground the change is smaller."""
        factors = np.asarray(factor, dtype=np.float32)
        self.pixels *= 1 + coverage * (factors.reshape(-1, 1, 1) - 1)


def _ellipse(x: Field, y: Field, at: tuple[float, float], radii: tuple[float, float]) -> Field:
    """Signed distance to an ellipse, near enough for soft edges."""
    scaled = np.sqrt(((x - at[0]) / radii[0]) ** 2 + ((y - at[1]) / radii[1]) ** 2)
    distance: Field = (scaled - 1) * min(radii)
    return distance


def _glow(x: Field, y: Field, at: tuple[float, float], radii: tuple[float, float]) -> Field:
    """Return a soft spot in [0, 1]."""
    spot: Field = np.exp(-(((x - at[0]) / radii[0]) ** 2) - ((y - at[1]) / radii[1]) ** 2)
    return spot


def draw(person: Person, size: int, random: np.random.Generator) -> NDArray[np.float32]:
    """Draws a person's portrait.

    Args:
        person: Who.
        size: Pixels of an edge of the result.
        random: Draws everything that `person` leaves open.

    Returns:
        float32 [size, size, 3], linear light in [0, ~1.3], drawn at twice the size and averaged.
    """
    portrait = _Portrait(person, 2 * size, random)
    portrait.background()
    portrait.shoulders()
    portrait.head()
    portrait.wrinkles()
    portrait.nose()
    portrait.mouth()
    portrait.eyes()
    portrait.hair()
    if person.glasses:
        portrait.spectacles()
    portrait.occlusion()
    fine = portrait.canvas.pixels
    mean = (fine[:, ::2, ::2] + fine[:, 1::2, ::2] + fine[:, ::2, 1::2] + fine[:, 1::2, 1::2]) * np.float32(0.25)
    return np.ascontiguousarray(np.moveaxis(mean, 0, -1))


class _Portrait:
    """One portrait in the making: the canvas, the person's proportions and the pose."""

    def __init__(self, person: Person, size: int, random: np.random.Generator) -> None:
        self.person = person
        self.random = random
        self.canvas = canvas = _Canvas(size)
        self.skin = np.asarray(SKIN[person.tone_level], dtype=np.float32) * np.float32(random.normal(1, 0.03))
        self.child = float(np.clip((16 - person.years) / 16, 0, 1))
        self.old = float(np.clip((person.years - 38) / 42, 0, 1))
        # Pose: a turn in the picture's plane, a size, a place, and a look to the side or up that moves the features.
        turn, scale = random.normal(0, 0.06), random.uniform(1.20, 1.36)
        x, y = canvas.x - random.normal(0, 0.025), canvas.y - 0.02 - random.normal(0, 0.025)
        self.x = ((np.cos(turn) * x + np.sin(turn) * y) / scale).astype(np.float32)
        self.y = ((np.cos(turn) * y - np.sin(turn) * x) / scale).astype(np.float32)
        self.yaw, self.pitch = random.normal(0, 0.035), random.normal(0, 0.02)
        width, height = (0.47, 0.72) if person.long else (0.60, 0.61)
        self.width = width + random.normal(0, 0.015)
        self.height = height + random.normal(0, 0.015) - 0.03 * self.child
        # A child's features sit lower and closer together in a larger skull.
        self.eye_y = -0.10 + 0.10 * self.child + self.pitch
        self.eye_gap = self.width * random.uniform(0.40, 0.46)
        self.mouth_y = self.height * (0.53 + 0.02 * self.child) + self.pitch
        greyed = float(np.clip(self.old * random.uniform(0.8, 1.7), 0, 1)) ** 1.5
        colour = np.asarray(_HAIR[random.integers(len(_HAIR))]) * random.uniform(0.7, 1.3)
        self.hair_colour = ((1 - greyed) * colour + greyed * np.array([0.55, 0.55, 0.56])).astype(np.float32)
        self.hair_length = random.uniform(-0.5, 1.0)

    def background(self) -> None:
        """Draw a wall of two colours with soft spots; neither knows who stands before it."""
        random, canvas = self.random, self.canvas
        first, second = random.uniform(0.05, 0.75, 3), random.uniform(0.05, 0.75, 3)
        angle = random.uniform(0, 2 * np.pi)
        blend = np.clip(0.5 + 0.4 * (np.cos(angle) * canvas.x + np.sin(angle) * canvas.y), 0, 1)
        canvas.pixels[:] = first.astype(np.float32)[:, None, None]
        canvas.paint(blend.astype(np.float32), second.astype(np.float32))
        for _ in range(3):
            at, radii = random.uniform(-1, 1, 2), random.uniform(0.15, 0.6, 2)
            spot = _glow(canvas.x, canvas.y, (at[0], at[1]), (radii[0], radii[1]))
            canvas.paint(spot, random.uniform(0.05, 0.8, 3).astype(np.float32), 0.6)

    def shoulders(self) -> None:
        """Long hair behind the head, a neck and clothes."""
        canvas, x, y = self.canvas, self.x, self.y
        if self.hair_length > 0.25:
            reach = 0.25 + 0.75 * self.hair_length
            falling = np.maximum(np.abs(x) - self.width - 0.07, np.abs(y - reach / 2) - reach / 2)
            canvas.paint(canvas.cover(falling.astype(np.float32)), self.hair_colour * 0.8)
        neck = np.maximum(np.abs(x - 0.3 * self.yaw) - 0.5 * self.width, np.abs(y - 0.75) - 0.5)
        canvas.paint(canvas.cover(neck), self.skin * 0.62)
        clothes = _ellipse(x, y, (0, 1.28), (0.95, 0.48))
        canvas.paint(canvas.cover(clothes), self.random.uniform(0.03, 0.7, 3).astype(np.float32))

    def head(self) -> None:
        """Ears and the lit face."""
        canvas, random = self.canvas, self.random
        for side in (-1, 1):
            ear = _ellipse(self.x, self.y, (side * (self.width - 0.01) + 0.4 * self.yaw, 0.02), (0.075, 0.13))
            canvas.paint(canvas.cover(ear), self.skin * 0.8)
        # The jaw is narrower than the temples, a child's less so.
        jaw = 1 + (0.22 - 0.1 * self.child) * np.clip(self.y, 0, 1) ** 2
        across, down = self.x * jaw / self.width, self.y / self.height
        self.face = canvas.cover((np.sqrt(across**2 + down**2) - 1) * np.float32(min(self.width, self.height)))
        bulge = np.sqrt(np.clip(1 - 0.8 * (across**2 + down**2), 0, 1))
        angle, ambient = random.uniform(0, 2 * np.pi), random.uniform(0.45, 0.75)
        slant = random.uniform(0.2, 0.75)
        lambert = bulge * np.sqrt(1 - slant**2) + slant * (np.cos(angle) * across + np.sin(angle) * down)
        light = ambient + (1.15 - ambient) * np.clip(lambert, 0, 1)
        canvas.paint(self.face, light * self.skin[:, None, None])
        for side in (-1, 1):
            at = (side * 0.55 * self.width + self.yaw, 0.42 * self.height)
            canvas.shade(self.face * _glow(self.x, self.y, at, (0.16, 0.13)), (1.0, 0.88, 0.88))

    def wrinkles(self) -> None:
        """Lines of the forehead, below the eyes and beside the mouth; they come with age."""
        depth = 0.55 * self.old
        if not depth:
            return
        canvas, x, y = self.canvas, self.x - self.yaw, self.y
        for line in range(3):
            distance = np.abs(y - self.eye_y + 0.20 + 0.085 * line + 0.04 * x**2) - 0.010
            within = self.face * (np.abs(x) < 0.62 * self.width)
            canvas.shade(canvas.cover(distance) * within, 1 - depth * 0.75)
        for side in (-1, 1):
            bag = np.abs(_ellipse(x, y, (side * self.eye_gap, self.eye_y + 0.07), (0.13, 0.075))) - 0.012
            canvas.shade(canvas.cover(bag) * (y > self.eye_y + 0.09) * self.face, 1 - depth * 0.8)
            slope = x * side - 0.17 - 0.35 * (y - 0.18)
            fold = np.maximum(np.abs(slope) - 0.012, np.abs(y - 0.30) - 0.12)
            canvas.shade(canvas.cover(fold) * self.face, 1 - depth)

    def nose(self) -> None:
        """Draw a shaded flank and two nostrils."""
        canvas, x, y = self.canvas, self.x - 1.25 * self.yaw, self.y - self.pitch
        tip = 0.24 - 0.06 * self.child
        lit = self.random.choice([-1, 1])
        flank = np.maximum(np.abs(x - lit * (0.03 + 0.12 * (y + 0.05))) - 0.022, np.abs(y - tip / 2) - tip / 2)
        canvas.shade(canvas.cover(flank) * self.face, 0.78)
        for side in (-1, 1):
            nostril = _ellipse(x, y, (side * 0.055, tip), (0.035, 0.022))
            canvas.shade(canvas.cover(nostril) * self.face, 0.45)

    def mouth(self) -> None:
        """Lips along a curve: corners up in a smile, level or down otherwise, with some overlap between the two."""
        canvas, random = self.canvas, self.random
        smiling = self.person.smiling
        rise = random.normal(0.19, 0.04) if smiling else random.normal(-0.05, 0.04)
        half = random.normal(0.31, 0.03) if smiling else random.normal(0.24, 0.03)
        half *= 1 - 0.15 * self.child
        x, y = self.x - 1.1 * self.yaw, self.y - self.mouth_y
        along = np.clip(x / half, -1, 1)
        centre = rise * (0.5 - along**2)
        gap = max(0.0, random.normal(0.05 if smiling else 0.02, 0.03)) * (1 - along**2)
        lip = random.uniform(0.030, 0.048) * np.sqrt(np.clip(1.05 - along**2, 0, 1))
        beyond = np.abs(x) - half
        lips = np.maximum(np.abs(y - centre) - gap - lip, beyond).astype(np.float32)
        redness = random.uniform(0.35, 0.6)
        canvas.shade(canvas.cover(lips), (0.72, redness, redness))
        opening = np.maximum(np.abs(y - centre) - np.maximum(gap, 0.010), beyond).astype(np.float32)
        canvas.shade(canvas.cover(opening), 0.22)
        if gap.max() > 0.03:
            # Teeth show when the mouth is open, whether it smiles or speaks.
            teeth = np.maximum(np.abs(y - centre + 0.3 * gap) - 0.6 * gap, np.abs(x) - 0.8 * half).astype(np.float32)
            canvas.paint(canvas.cover(teeth), (0.55, 0.53, 0.48), 0.8)

    def eyes(self) -> None:
        """Whites, irises, lids and brows; a smile narrows the eyes a little."""
        canvas, random = self.canvas, self.random
        height = 0.062 * (1 + 0.45 * self.child) * random.uniform(0.75, 1.15) * (0.85 if self.person.smiling else 1)
        breadth = 0.115 * (1 + 0.15 * self.child)
        colour = _EYES[random.integers(len(_EYES))]
        gaze = random.normal(0, 0.025)
        lift, slope = random.normal(0, 0.015), random.normal(0, 0.08)
        for side in (-1, 1):
            at = (side * self.eye_gap + self.yaw, self.eye_y)
            eye = _ellipse(self.x, self.y, at, (breadth, height))
            canvas.paint(canvas.cover(eye), (0.60, 0.58, 0.56), 0.9)
            iris = np.maximum(eye, _ellipse(self.x, self.y, (at[0] + gaze, at[1]), (0.058, 0.062)))
            canvas.paint(canvas.cover(iris), colour)
            lid = np.maximum(np.abs(eye) - 0.014, self.y - at[1])
            canvas.shade(canvas.cover(lid), 0.35)
            x, y = self.x - at[0], self.y - at[1] + 0.135 - lift
            brow = np.maximum(np.abs(y + slope * x * side + 0.9 * x**2) - 0.022, np.abs(x) - 0.135)
            canvas.paint(canvas.cover(brow) * self.face, self.hair_colour * 0.8, 0.75)

    def hair(self) -> None:
        """Hair on top and at the temples; the hairline rises with age in some."""
        canvas, random = self.canvas, self.random
        line = -self.height * (0.62 + 0.22 * self.old * random.uniform(0, 1) + random.normal(0, 0.04))
        wave = 0.04 * np.sin(self.x * random.uniform(4, 12) + random.uniform(0, 6))
        sides = 0.9 * random.uniform(0.2, 0.8) * (self.x / self.width) ** 2 * self.height
        skull = _ellipse(self.x, self.y, (0, -0.02), (self.width + 0.06, self.height + 0.07))
        distance = np.maximum(skull, self.y - line - wave - sides).astype(np.float32)
        strands = 1 + 0.12 * np.sin(self.x * random.uniform(10, 22) + 5 * self.y + random.uniform(0, 6))
        canvas.paint(canvas.cover(distance), strands * self.hair_colour[:, None, None])

    def spectacles(self) -> None:
        """Two rims, a bridge and temples, in one of four colours; lenses reflect a little."""
        canvas, random = self.canvas, self.random
        colour = _FRAMES[random.integers(len(_FRAMES))]
        radii = (random.uniform(0.165, 0.195), random.uniform(0.13, 0.165))
        thickness = random.uniform(0.022, 0.034)
        y = self.eye_y + 0.02
        for side in (-1, 1):
            lens = _ellipse(self.x, self.y, (side * self.eye_gap + self.yaw, y), radii)
            canvas.paint(canvas.cover(lens), (0.7, 0.75, 0.8), random.uniform(0.02, 0.12))
            canvas.paint(canvas.cover(np.abs(lens) - thickness), colour)
            arm = np.maximum(np.abs(self.y - y + 0.02) - 0.02, np.abs(self.x - self.yaw) - self.width)
            outside = (self.x - self.yaw) * side > self.eye_gap + radii[0]
            canvas.paint(canvas.cover(arm) * outside, colour)
        bridge = np.maximum(np.abs(self.y - y + 0.02) - 0.018, np.abs(self.x - self.yaw) - self.eye_gap + radii[0])
        canvas.paint(canvas.cover(bridge), colour)

    def occlusion(self) -> None:
        """In every fourth picture something stands before the face: a hand, a cup, a strap."""
        random, canvas = self.random, self.canvas
        present = random.uniform() < 0.12
        at, angle = random.uniform(-0.7, 0.7, 2), random.uniform(0, np.pi)
        half = random.uniform(0.08, 0.26, 2)
        colour = random.uniform(0.03, 0.7, 3).astype(np.float32)
        if not present:
            return
        x, y = canvas.x - at[0], canvas.y - at[1]
        across, along = np.cos(angle) * x + np.sin(angle) * y, np.cos(angle) * y - np.sin(angle) * x
        if random.uniform() < 0.4:
            shape = np.abs(across) - 0.4 * half[0]
        else:
            shape = _ellipse(across, along, (0, 0), (float(half[0]), float(half[1])))
        canvas.paint(canvas.cover(shape.astype(np.float32)), colour)
