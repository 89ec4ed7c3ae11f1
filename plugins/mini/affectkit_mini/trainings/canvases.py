"""Made pictures for the training of mini/faces: real faces at any size, composites, mosaics and pictures without a face, under bad light.

A sample is a picture (H, W, 3) uint8 with its faces (K, 14), boxes and points, and doubtful boxes (L, 4), in its own pixels.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import cv2
import numpy as np

from affectkit.api import Turn
from affectkit_mini.single_shot import STRIDES, cells
from affectkit_mini.trainings.teacher import Picture

Sample = tuple[np.ndarray, np.ndarray, np.ndarray]

RANGES = {8: (9, 40), 16: (28, 88), 32: (64, 400)}  # pixels: sides of the faces that the cells of a stride answer for
SIZES = ((160, 160), (96, 160), (160, 96), (192, 192), (256, 256))  # height and width of the pictures of a batch
SIZE_SHARES = (0.46, 0.2, 0.14, 0.12, 0.08)
ZOOMED, ZOOMED_SIDE = 0.4, 192  # share of the batches, up to that size, of which the closer look sees more pixels than the network
SEEN, UNSEEN = 0.55, 0.1  # shares of its box in the picture: a face; nothing; between them, doubtful
TINY = 10.0  # pixels: smaller faces are doubtful
CENTRE, EDGE, SPREAD = 0.16, 0.22, 0.2  # distance from a face's centre, in its sides: of a hit; of what gives a box; of the falling weight
LEAST, MOST = 0.7, 1.4  # shares of a range within which a face may be found as well, and need not
PIECES = 3  # rows and columns of the pieces of a face that is taken apart
NO_FACE = (np.zeros((0, 14), np.float32), np.zeros((0, 4), np.float32))


class Canvases:
    """Made pictures, a batch at a time.

    Args:
        pictures: real pictures with labels.
        crops: faces that are pasted into others.
    """

    def __init__(self, pictures: Sequence[Picture], crops: Sequence[Picture]) -> None:
        self.pictures, self.crops = pictures, crops
        self.shares = _shares(pictures)

    def batch(self, rows: np.ndarray, turn: Turn) -> Mapping[str, np.ndarray]:
        """One made picture for each of ``rows`` of the pictures.

        Returns:
            ``shown`` (B, H, W, 3) uint8, ``large`` likewise, the same or with twice as many pixels a side, and ``goal`` (B, N) and
            ``wanted`` (B, N, 14) of :func:`goals`.
        """
        random = turn.numpy()
        height, width = SIZES[random.choice(len(SIZES), p=SIZE_SHARES)]
        zoom = 2 if random.random() < ZOOMED and max(height, width) <= ZOOMED_SIDE else 1
        samples = [self.sample(random, self.pictures[row], zoom * height, zoom * width) for row in rows]
        aims = [goals(*cut(faces / zoom, doubtful / zoom, height, width), height, width) for _, faces, doubtful in samples]
        large = np.stack([image for image, *_ in samples])
        return {
            "shown": np.stack([cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA) for image in large]),
            "large": large,
            "goal": np.stack([goal for goal, _ in aims]),
            "wanted": np.stack([wanted for _, wanted in aims]),
        }

    def sample(self, random: np.random.Generator, picture: Picture, height: int, width: int) -> Sample:
        """One made picture of that many pixels."""
        kind = random.random()
        if kind < 0.33 and len(picture.faces):
            made = self.around(random, picture, height, width)
        elif kind < 0.5:
            made = self.whole(random, picture, height, width)
        elif kind < 0.68:
            made = self.composite(random, height, width)
        elif kind < 0.76:
            made = self.mosaic(random, picture, height, width)
        elif kind < 0.83 and len(picture.faces):
            made = self.beside(random, picture, height, width)
        else:
            made = ((self.scene if kind < 0.97 else texture)(random, height, width), *NO_FACE)
        faces, doubtful = cut(made[1], made[2], height, width)
        image = np.ascontiguousarray(made[0])
        occlude(image, faces, random)
        return worsen(image, random), faces, doubtful

    def around(self, random: np.random.Generator, picture: Picture, height: int, width: int) -> Sample:
        """A face of a picture at any size and place."""
        face = picture.faces[random.integers(len(picture.faces))]
        side = math.sqrt((face[2] - face[0]) * (face[3] - face[1]))
        most = (1.9 if random.random() < 0.25 else 1.05) * min(height, width)  # so large that no cell should take its eyes for a face
        wanted = max(min(math.exp(random.uniform(math.log(TINY), math.log(most))), 2.5 * side), TINY)
        scale = max(wanted / side, 0.7 * min(height / picture.rgb.shape[0], width / picture.rgb.shape[1]))
        wanted = scale * side
        place = [random.uniform(min(0.3 * wanted, edge / 2), max(edge - 0.3 * wanted, edge / 2)) for edge in (width, height)]
        return show(picture, matrix(face[:4], place, scale, random, 20, 0.4), height, width, random)

    def beside(self, random: np.random.Generator, picture: Picture, height: int, width: int) -> Sample:
        """What is next to a face, mostly below it: hair, hands and clothes, as large as if the face were looked at."""
        face = picture.faces[random.integers(len(picture.faces))]
        side = math.sqrt((face[2] - face[0]) * (face[3] - face[1]))
        scale = max(min(math.exp(random.uniform(math.log(30), math.log(2.0 * max(height, width)))), 2.5 * side), TINY) / side
        away = np.array([random.uniform(-1.5, 1.5), random.uniform(0.7, 3.0) if random.random() < 0.7 else random.uniform(-3.0, -0.7)])
        reach = np.array([width, height]) / scale
        centre = (face[:2] + face[2:4]) / 2 + away * (0.5 * side + 0.3 * reach)
        move = matrix(np.tile(centre, 2), [width / 2, height / 2], scale, random, 20, 0.4)
        return show(picture, move, height, width, random)

    def whole(self, random: np.random.Generator, picture: Picture, height: int, width: int) -> Sample:
        """A picture as the detector will see it: shrunk into the corner."""
        tall, wide = picture.rgb.shape[:2]
        scale = min(height / tall, width / wide) * (random.uniform(0.7, 1.0) if random.random() < 0.5 else 1.0)
        frame = np.array([0, 0, wide, tall])
        return show(picture, matrix(frame, [wide * scale / 2, tall * scale / 2], scale, random, 0, 0), height, width, random)

    def background(self, random: np.random.Generator, height: int, width: int) -> np.ndarray:
        """A part of a picture without a face and without a doubt."""
        for _ in range(12):
            picture = self._pick(random, "scenes")
            tall, wide = picture.rgb.shape[:2]
            scale = math.exp(random.uniform(math.log(min(0.35, height / tall)), math.log(1.6)))
            half = width / scale / 2, height / scale / 2
            centre = [random.uniform(min(h, e / 2), max(e - h, e / 2)) for h, e in zip(half, (wide, tall), strict=True)]
            move = matrix(np.array(centre * 2), [width / 2, height / 2], scale, random, 30, 0.3)
            faces, doubtful = moved(picture, move)
            boxes = np.concatenate([faces[:, :4], doubtful])
            if not ((boxes[:, :2] < (width, height)).all(1) & (boxes[:, 2:] > 0).all(1)).any():
                image = show(picture, move, height, width, random)[0]
                if random.random() < 0.35:
                    scribble(image, random, int(random.integers(1, 6)))
                return image
        return texture(random, height, width)

    def scene(self, random: np.random.Generator, height: int, width: int) -> np.ndarray:
        """A picture without a face, in half of all cases with things pasted that are none: what is pasted is not therefore a face."""
        image = np.ascontiguousarray(self.background(random, height, width))
        if random.random() < 0.5:
            for _ in range(random.integers(1, 4)):
                self.decoy(image, [], random)
        return image

    def composite(self, random: np.random.Generator, height: int, width: int, decoys: bool = True) -> Sample:
        """Faces of other pictures, pasted with a soft edge where there is none, and things that are no faces among them."""
        image = self.background(random, height, width).copy()
        faces: list[np.ndarray] = []
        for _ in range(random.integers(1, 7)):
            real = random.random() < 0.5
            source = self._pick(random, "faces") if real else self.crops[random.integers(len(self.crops))]
            face = source.faces[np.argmax(source.faces[:, 2] - source.faces[:, 0])]
            side = max(face[2] - face[0], face[3] - face[1])
            if side < 24:
                continue
            wanted = math.exp(random.uniform(math.log(11), math.log(min(0.8 * min(height, width), 2.5 * side))))
            place = [random.uniform(0.4 * wanted, max(edge - 0.4 * wanted, 0.5 * wanted)) for edge in (width, height)]
            move = matrix(face[:4], place, wanted / side, random, 20, 0.4)
            box = moved(Picture("", source.rgb, face[None], NO_FACE[1], NO_FACE[0]), move)[0][0]
            if all(apart(box, other) for other in faces):
                paste(image, source.rgb, face, move, wanted, real, random)
                faces.append(box)
        if decoys and random.random() < 0.4:
            self.decoy(image, faces, random)
        return image, np.array(faces, np.float32).reshape(-1, 14), NO_FACE[1]

    def decoy(self, image: np.ndarray, faces: Sequence[np.ndarray], random: np.random.Generator) -> None:
        """Pastes what is no face as faces are pasted: a piece of a scene, or a face that was taken apart; not over a face."""
        height, width = image.shape[:2]
        wanted = math.exp(random.uniform(math.log(16), math.log(0.8 * min(height, width))))
        side = int(min(max(wanted, 24), 96))
        if random.random() < 0.6:
            rgb = self.background(random, side, side)
        else:
            source = self.crops[random.integers(len(self.crops))] if random.random() < 0.5 else self._pick(random, "faces")
            rgb = taken_apart(source, random)
        tall, wide = rgb.shape[:2]
        face = np.array([0.15 * wide, 0.1 * tall, 0.85 * wide, 0.95 * tall])
        place = [random.uniform(0, edge) for edge in (width, height)]
        reach = np.array([place[0] - wanted, place[1] - wanted, place[0] + wanted, place[1] + wanted])
        if all(apart(reach, other) for other in faces):
            move = matrix(face, place, wanted / max(face[2] - face[0], face[3] - face[1]), random, 20, 0.4)
            paste(image, rgb, face, move, wanted, random.random() < 0.7, random)

    def mosaic(self, random: np.random.Generator, picture: Picture, height: int, width: int) -> Sample:
        """Four pictures in one."""
        image = np.zeros((height, width, 3), np.uint8)
        column, row = int(random.uniform(0.3, 0.7) * width), int(random.uniform(0.3, 0.7) * height)
        faces, doubtful = [], []
        for left, top, right, low in ((0, 0, column, row), (column, 0, width, row), (0, row, column, height), (column, row, width, height)):
            make = self.around if random.random() < 0.6 else self.whole
            picture = self._pick(random, "faces" if make == self.around else "all")
            image[top:low, left:right], here, doubts = make(random, picture, low - top, right - left)
            here, doubts = cut(here, doubts, low - top, right - left)
            faces.append(here + np.tile(np.array([left, top], np.float32), 7))
            doubtful.append(doubts + np.tile(np.array([left, top], np.float32), 2))
        return image, np.concatenate(faces), np.concatenate(doubtful)

    def _pick(self, random: np.random.Generator, kind: str) -> Picture:
        return self.pictures[random.choice(len(self.pictures), p=self.shares[kind])]


def _shares(pictures: Sequence[Picture]) -> dict[str, np.ndarray]:
    """How often each picture is taken: a long clip counts as few pictures, since its frames are much alike."""
    groups: dict[str, list[int]] = {}
    for index, picture in enumerate(pictures):
        clip = picture.name.startswith("video")
        groups.setdefault(picture.name if clip else picture.name.rsplit("_", 1)[0] if "_" in picture.name else "images", []).append(index)
    weight = np.zeros(len(pictures))
    for name, places in groups.items():
        most = 12 if name.startswith("video") else {"facial_expressions": 200, "human": 110}.get(name.split("/")[-1], 2.5 * len(places))
        weight[places] = min(most, 3 * len(places)) / len(places)
    scenes = [min(p.rgb.shape[:2]) >= 100 and "facial_expressions" not in p.name for p in pictures]
    kinds = {"all": weight, "faces": weight * [len(p.faces) > 0 for p in pictures], "scenes": weight * scenes}
    return {kind: values / values.sum() for kind, values in kinds.items()}


def taken_apart(picture: Picture, random: np.random.Generator) -> np.ndarray:
    """The largest face of a picture with its pieces in another order: (S, S, 3) uint8."""
    face = picture.faces[np.argmax(picture.faces[:, 2] - picture.faces[:, 0])]
    piece = 32
    side = PIECES * piece
    scale = side / max(face[2] - face[0], face[3] - face[1])
    whole = warp(picture.rgb, matrix(face[:4], [side / 2, side / 2], scale, random, 0, 0), side, side)
    order = random.permutation(PIECES**2)
    tiles = whole.reshape(PIECES, piece, PIECES, piece, 3).swapaxes(1, 2).reshape(-1, piece, piece, 3)[order]
    return np.ascontiguousarray(tiles.reshape(PIECES, PIECES, piece, piece, 3).swapaxes(1, 2).reshape(side, side, 3))


def apart(box: np.ndarray, other: np.ndarray) -> bool:
    """Whether two boxes share nothing."""
    return bool((np.minimum(box[2:4], other[2:4]) <= np.maximum(box[:2], other[:2])).any())


def matrix(box: np.ndarray, place: Sequence[float], scale: float, random: np.random.Generator, degrees: float, tilted: float) -> np.ndarray:
    """(2, 3) that brings the centre of a box to a place, scaled, mirrored in half of all cases, and turned in the share ``tilted``."""
    angle = math.radians(random.uniform(-degrees, degrees)) if random.random() < tilted else 0.0
    turn = scale * np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    if random.random() < 0.5:
        turn = turn @ np.diag([-1.0, 1.0])
    centre = (box[:2] + box[2:4]) / 2
    return np.concatenate([turn, (np.asarray(place) - turn @ centre)[:, None]], 1)


def moved(picture: Picture, move: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Faces and doubtful boxes after a move; a box that is turned stays upright and keeps its sides."""
    scale = math.sqrt(abs(np.linalg.det(move[:, :2])))

    def boxes(old: np.ndarray) -> np.ndarray:
        centre = (old[:, :2] + old[:, 2:]) / 2 @ move[:, :2].T + move[:, 2]
        half = (old[:, 2:] - old[:, :2]) * scale / 2
        return np.concatenate([centre - half, centre + half], 1)

    points = picture.faces[:, 4:].reshape(-1, 5, 2) @ move[:, :2].T + move[:, 2]
    if np.linalg.det(move[:, :2]) < 0:
        points = points[:, [1, 0, 2, 4, 3]]  # in a mirror the right eye is the left one
    faces = np.concatenate([boxes(picture.faces[:, :4]), points.reshape(-1, 10)], 1)
    return faces.astype(np.float32), boxes(picture.doubtful).astype(np.float32)


def warp(rgb: np.ndarray, move: np.ndarray, height: int, width: int, **border: object) -> np.ndarray:
    """A picture after a move, shrunk first where it becomes much smaller, so that no fine pattern is left."""
    scale = math.sqrt(abs(np.linalg.det(move[:, :2])))
    if scale < 0.6:
        share = max(1.4 * scale, 0.05)
        small = cv2.resize(rgb, None, fx=share, fy=share, interpolation=cv2.INTER_AREA)
        move = move * np.array([rgb.shape[1] / small.shape[1], rgb.shape[0] / small.shape[0], 1.0])
        rgb = small
    return cv2.warpAffine(rgb, move, (width, height), flags=cv2.INTER_LINEAR, **border)


def show(picture: Picture, move: np.ndarray, height: int, width: int, random: np.random.Generator) -> Sample:
    """A picture and its faces after a move; beside it is black, a colour, grey, or its edge."""
    kind = random.random()
    colour = (0, 0, 0) if kind < 0.5 else tuple(int(v) for v in random.integers(0, 256, 3)) if kind < 0.8 else (128, 128, 128)
    mode = cv2.BORDER_CONSTANT if kind < 0.9 else cv2.BORDER_REPLICATE
    return warp(picture.rgb, move, height, width, borderMode=mode, borderValue=colour), *moved(picture, move)


def paste(
    image: np.ndarray, rgb: np.ndarray, face: np.ndarray, move: np.ndarray, side: float, real: bool, random: np.random.Generator
) -> None:
    """Puts a face that is ``side`` pixels large after the move into a picture: an ellipse around it or, of a crop, the whole crop."""
    mask = np.ones(rgb.shape[:2], np.float32)
    if real or random.random() < 0.6:
        centre, reach = (face[:2] + face[2:4]) / 2, random.uniform(0.62, 0.85) * (face[2:4] - face[:2])
        mask = cv2.ellipse(np.zeros_like(mask), centre.astype(int).tolist(), reach.astype(int).clip(1).tolist(), 0, 0, 360, 1.0, -1)
    height, width = image.shape[:2]
    patch, mask = warp(rgb, move, height, width), warp(mask, move, height, width)
    if random.random() < 0.8:
        soft = 2 * max(1, int(0.04 * side)) + 1
        mask = cv2.blur(mask, (soft, soft))
    image[:] = (image * (1 - mask[..., None]) + patch * mask[..., None]).astype(np.uint8)


def texture(random: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Tiles, clouds, or shapes and letters on a colour."""
    if random.integers(3) == 0:
        tiles = random.integers(2, 20)
        smooth = int(random.choice([cv2.INTER_NEAREST, cv2.INTER_CUBIC]))
        return cv2.resize(random.integers(0, 256, (tiles, tiles, 3), dtype=np.uint8), (width, height), interpolation=smooth)
    image = np.full((height, width, 3), random.integers(0, 256, 3), np.uint8)
    scribble(image, random, int(random.integers(3, 40)))
    return image


def scribble(image: np.ndarray, random: np.random.Generator, number: int) -> None:
    """Draws shapes and letters into a picture: what a detector takes for faces most easily."""
    height, width = image.shape[:2]
    for _ in range(number):
        colour = tuple(int(v) for v in random.integers(0, 256, 3))
        here, there = ((int(random.integers(width)), int(random.integers(height))) for _ in range(2))
        line = int(random.integers(-1, 12)) or 1
        shape = random.integers(7)
        if shape > 4:
            rings(image, here, random)
        elif shape == 0:
            axes = (int(random.integers(3, 60)), int(random.integers(3, 60)))
            cv2.ellipse(image, here, axes, random.uniform(0, 180), 0, 360, colour, line)
        elif shape == 1:
            cv2.rectangle(image, here, there, colour, line)
        elif shape == 2:
            cv2.line(image, here, there, colour, abs(line))
        else:
            text = "".join(chr(code) for code in random.integers(48, 122, random.integers(1, 10)))
            cv2.putText(image, text, here, int(random.integers(8)), random.uniform(0.4, 3), colour, abs(line))


def rings(image: np.ndarray, centre: tuple[int, int], random: np.random.Generator) -> None:
    """Draws ellipses in each other, some of them of two colours: balls, wheels, suns and letters are round as heads are."""
    size = math.exp(random.uniform(math.log(6), math.log(0.4 * min(image.shape[:2]))))
    tall, angle = random.uniform(0.8, 1.5), random.uniform(-30, 30)
    for _ in range(random.integers(1, 5)):
        axes = (max(int(size), 1), max(int(tall * size), 1))
        colours = [tuple(int(v) for v in random.integers(0, 256, 3)) for _ in range(2)]
        cv2.ellipse(image, centre, axes, angle, 0, 360, colours[0], -1)
        if random.random() < 0.4:
            begin = random.uniform(0, 360)
            cv2.ellipse(image, centre, axes, angle, begin, begin + random.uniform(60, 240), colours[1], -1)
        size *= random.uniform(0.4, 0.9)


def cut(faces: np.ndarray, doubtful: np.ndarray, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Faces that are mostly in the picture; those of which too little is seen, or that are tiny, become doubtful."""
    sides = faces[:, 2:4] - faces[:, :2]
    inside = (np.minimum(faces[:, 2:4], (width, height)) - faces[:, :2].clip(0)).clip(0)
    seen = inside.prod(1) / sides.prod(1)
    tiny = np.sqrt(sides.prod(1)) < TINY
    maybe = (seen > UNSEEN) & ((seen < SEEN) | tiny)
    return faces[(seen >= SEEN) & ~tiny], np.concatenate([doubtful, faces[maybe, :4]])


def occlude(image: np.ndarray, faces: np.ndarray, random: np.random.Generator) -> None:
    """Covers a part of some faces: the lower third, a side, or a patch."""
    for x0, y0, x1, y1 in faces[:, :4]:
        if random.random() > 0.1:
            continue
        width, height, part = x1 - x0, y1 - y0, random.integers(3)
        if part == 0:
            y0 += height * random.uniform(0.6, 0.8)
        elif part == 1:
            x1 = x0 + width * random.uniform(0.15, 0.35)
        else:
            x0, y0 = x0 + width * random.uniform(0, 0.7), y0 + height * random.uniform(0, 0.7)
            x1, y1 = x0 + width * random.uniform(0.1, 0.4), y0 + height * random.uniform(0.1, 0.3)
        cv2.rectangle(image, (int(x0), int(y0)), (int(x1), int(y1)), tuple(int(v) for v in random.integers(0, 256, 3)), -1)


def worsen(image: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Grey, other light, dark, blurred, noisy, or compressed; each sometimes."""
    if random.random() < 0.3:
        image = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    if random.random() < 0.7:
        gamma, gain, shift = math.exp(random.uniform(-0.7, 0.7)), math.exp(random.uniform(-0.5, 0.35)), random.uniform(-35, 35)
        tint = np.exp(random.uniform(-0.12, 0.12, 3))
        table = 255 * gain * tint * (np.arange(256)[:, None] / 255) ** gamma + shift
        image = cv2.LUT(image, table.clip(0, 255).astype(np.uint8)[None])
    if random.random() < 0.05:
        image = cv2.convertScaleAbs(image, alpha=random.uniform(0.15, 0.4))
    if random.random() < 0.2:
        side = 2 * int(random.integers(1, 4)) + 1
        still = random.random() < 0.6
        image = cv2.GaussianBlur(image, (side, side), 0) if still else cv2.blur(image, (side, 1) if random.random() < 0.5 else (1, side))
    if random.random() < 0.15:
        image = (image + random.normal(0, random.uniform(2, 14), image.shape)).clip(0, 255).astype(np.uint8)
    if random.random() < 0.25:
        image = cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, int(random.integers(15, 80))])[1], cv2.IMREAD_COLOR)
    return image


def goals(faces: np.ndarray, doubtful: np.ndarray, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """What every cell should say.

    Returns:
        Goals (N,) float32: 1 where a face is, below it the closer to 0 the farther from a face, -1 where it does not matter;
        and (N, 14) float32: the box and the points that a cell should give, zeros where it need not.
    """
    centres, strides = (part.numpy() for part in cells(height, width))
    strides = strides[:, 0]
    goal, owner, nearest = np.zeros(len(centres), np.float32), np.full(len(centres), -1), np.full(len(centres), np.inf)
    least_side = np.array([LEAST * RANGES[stride][0] if stride > STRIDES[0] else 0.0 for stride in strides])
    most_side = np.array([MOST * RANGES[stride][1] for stride in strides])
    for box in doubtful:
        size = math.sqrt((box[2:] - box[:2]).prod())
        inside = ((centres > box[:2] - strides[:, None] / 2) & (centres < box[2:] + strides[:, None] / 2)).all(1)
        goal[inside & (size >= least_side) & (size <= most_side)] = -1
    for index, face in enumerate(faces):
        sides = face[2:4] - face[:2]
        size = math.sqrt(sides.prod())
        centre = ((face[:2] + face[2:4]) / 2).clip(2, (width - 2, height - 2))
        distance = np.linalg.norm((centres - centre) / sides, axis=1)
        for stride in STRIDES:
            here, (least, most) = strides == stride, RANGES[stride]
            if least <= size <= most:
                closest = np.arange(len(centres)) == np.where(here, distance, np.inf).argmin()
                hit = here & ((distance < CENTRE) | closest)
                first = distance < nearest
                goal[hit & first] = 1
                own = here & first & ((distance < EDGE) | closest)
                owner[own], nearest[own] = index, distance[own]
                rest = here & ~hit & (goal >= 0) & (goal < 1) & (distance < 3 * SPREAD)
                goal[rest] = np.maximum(goal[rest], np.exp(-((distance[rest] / SPREAD) ** 2) / 2))
            elif LEAST * least <= size <= MOST * most:
                goal[here & (distance < SPREAD) & (goal >= 0) & (goal < 1)] = -1
    wanted = np.zeros((len(centres), 14), np.float32)
    wanted[owner >= 0] = faces[owner[owner >= 0]]
    return goal, wanted
