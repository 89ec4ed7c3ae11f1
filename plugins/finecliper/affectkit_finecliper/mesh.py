"""Which of the 478 points of MediaPipe's face mesh lies where, and what is drawn of a face: contours, regions, the 68 points of iBUG.

The mesh numbers its points once and for all; its canonical face stands in the same file as the networks (``geometry_pipeline_metadata_landmarks.binarypb`` of
``face_landmarker.task``). The contours below were traced on that face, clockwise as one sees it or the other way round, each closed. Right and left are the
person's own. Points 468 to 477 are the irises.
"""

from __future__ import annotations

from collections.abc import Mapping

POINTS = 478
MESH = 468  # without the irises

OVAL = (
    *(10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377),
    *(152, 148, 176, 149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109),
)
RIGHT_BROW = (70, 63, 105, 66, 107, 55, 65, 52, 53, 46)
LEFT_BROW = (300, 293, 334, 296, 336, 285, 295, 282, 283, 276)
RIGHT_EYE = (33, 7, 163, 144, 145, 153, 154, 155, 133, 173, 157, 158, 159, 160, 161, 246)
LEFT_EYE = (263, 249, 390, 373, 374, 380, 381, 382, 362, 398, 384, 385, 386, 387, 388, 466)
NOSE = (168, 193, 245, 188, 174, 217, 198, 209, 49, 129, 64, 98, 97, 2, 326, 327, 294, 358, 279, 429, 420, 437, 399, 412, 465, 417)
OUTER_LIPS = (61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291, 409, 270, 269, 267, 0, 37, 39, 40, 185)
INNER_LIPS = (78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308, 415, 310, 311, 312, 13, 82, 81, 80, 191)
MIDLINE = (8, 168, 6, 197, 195, 5, 4, 1)  # from between the brows down to the tip of the nose
IRISES = tuple(range(MESH, POINTS))

CONTOURS = (OVAL, RIGHT_BROW, LEFT_BROW, RIGHT_EYE, LEFT_EYE, OUTER_LIPS, INNER_LIPS)

FIVE: tuple[tuple[int, ...], ...] = ((33, 133), (362, 263), (1,), (61,), (291,))
"""Where YuNet's five points are: right eye, left eye (both between their corners), tip of the nose, right and left corner of the mouth."""

IBUG68 = (
    # Jaw from ear to ear: those points of the oval's lower half that are nearest to seventeen equal steps along it, on the canonical face.
    *(127, 234, 132, 58, 172, 136, 150, 176, 152, 400, 379, 365, 397, 288, 361, 454, 356),
    *(70, 63, 105, 66, 107),  # right brow, along its upper edge, from outside
    *(336, 296, 334, 293, 300),  # left brow, from inside
    *(168, 197, 5, 1),  # bridge of the nose in equal steps, down to its tip
    *(98, 97, 2, 326, 327),  # under the nose
    *(33, 160, 158, 133, 153, 144),  # right eye: outer corner, upper lid, inner corner, lower lid
    *(362, 385, 387, 263, 373, 380),  # left eye: inner corner, upper lid, outer corner, lower lid
    *(61, 40, 37, 0, 267, 270, 291, 321, 314, 17, 84, 91),  # outer edge of the lips from the right corner, upper lip first
    *(78, 81, 13, 311, 308, 402, 14, 178),  # inner edge of the lips, likewise
)
"""The 68 points of the iBUG annotation (Sagonas et al., 300-W, ICCVW 2013), in its order, as points of the mesh. The choice is our own: its authors
published none for this mesh, and its points are named by what they lie on."""

BLENDSHAPE_POINTS = tuple(sorted({*MIDLINE, *IRISES, *(point for contour in CONTOURS for point in contour)}))
"""The 146 points that the network of blendshapes reads, in rising order: every contour but the nose's, the midline and the irises."""

BLENDSHAPES = (
    *("neutral", "browDownLeft", "browDownRight", "browInnerUp", "browOuterUpLeft", "browOuterUpRight"),
    *("cheekPuff", "cheekSquintLeft", "cheekSquintRight"),
    *(f"eye{what}{side}" for what in ("Blink", "LookDown", "LookIn", "LookOut", "LookUp", "Squint", "Wide") for side in ("Left", "Right")),
    *("jawForward", "jawLeft", "jawOpen", "jawRight", "mouthClose"),
    *(f"mouth{what}{side}" for what in ("Dimple", "Frown") for side in ("Left", "Right")),
    *("mouthFunnel", "mouthLeft", "mouthLowerDownLeft", "mouthLowerDownRight", "mouthPressLeft", "mouthPressRight"),
    *("mouthPucker", "mouthRight", "mouthRollLower", "mouthRollUpper", "mouthShrugLower", "mouthShrugUpper"),
    *(f"mouth{what}{side}" for what in ("Smile", "Stretch", "UpperUp") for side in ("Left", "Right")),
    *("noseSneerLeft", "noseSneerRight"),
)
"""Names of the 52 blendshapes in the network's order (those of Apple's ARKit, the first of them for no movement at all)."""

PALETTE: Mapping[str, tuple[int, int, int]] = {
    "background": (0, 0, 0),
    "skin": (222, 172, 140),
    "brows": (124, 78, 32),
    "eyes": (64, 128, 255),
    "nose": (255, 224, 64),
    "lips": (224, 32, 64),
    "inner_mouth": (112, 0, 72),
    "glasses": (0, 208, 208),
    "ears": (255, 128, 64),
    "earrings": (192, 255, 64),
    "hair": (96, 48, 160),
    "hat": (208, 96, 224),
    "neck": (160, 128, 112),
    "necklace": (240, 240, 240),
    "clothes": (48, 128, 80),
}
"""Colour of each region, RGB. The same on both sides of a face, so that a mirrored map is the map of the mirrored face; those after the inner
mouth come from networks only."""

REGIONS = tuple(PALETTE)
