#!/usr/bin/env python3
"""Golden results of Pillow for harness/tests/fixtures/augment.json and augment_*.png. Needs numpy and Pillow.

    python scripts/augment_golden.py harness/tests/fixtures

For each input, every operation of the AutoAugment CIFAR-10 policy at every level (0-9) and sign, as the lineage
parametrises them, and a few bilinear resizes. Results lie below each other in one PNG an input, in the order of the JSON.
"""
import json
import sys
from pathlib import Path

import numpy as np
import PIL
from PIL import Image, ImageEnhance, ImageOps

FILL = (128, 128, 128)


def inputs():
    """No symmetry in any of them: a textured gradient (not square), a dull one, and a flat one with three levels."""
    y, x = np.mgrid[0:28, 0:36]
    noise = (x * 7919 + y * 104729 + x * y * 31) % 61
    textured = np.stack([x * 5 + noise, 255 - y * 7 - noise // 2, (x * y + noise * 3) % 256], -1)
    y, x = np.mgrid[0:32, 0:32]
    dull = np.stack([60 + x // 2 + y % 3, 90 + (x * y) % 17, 70 + y + (x * 13 + y * 7) % 5], -1)
    flat = np.full((16, 16, 3), (10, 200, 99))
    flat[2:5, 7:] = (40, 180, 99)
    flat[9, 3] = (255, 0, 98)
    return {name: Image.fromarray(a.clip(0, 255).astype(np.uint8)) for name, a in
            [("textured", textured), ("dull", dull), ("flat", flat)]}


def affine(image, matrix, filter):
    return image.transform(image.size, Image.Transform.AFFINE, matrix, filter, fillcolor=FILL)


def rotate(image, degrees):
    turned = image.convert("RGBA").rotate(degrees)
    return Image.composite(turned, Image.new("RGBA", image.size, FILL + (128,)), turned).convert("RGB")


def operations():
    nearest, bicubic = Image.Resampling.NEAREST, Image.Resampling.BICUBIC
    share, angle, factor = np.linspace(0, 150 / 331, 10), np.linspace(0, 30, 10), np.linspace(0, 0.9, 10)
    shear, bits, threshold = np.linspace(0, 0.3, 10), np.round(np.linspace(8, 4, 10)), np.linspace(256, 0, 10)
    for level in range(10):
        yield "rotate", level, 1, lambda i, m=angle[level]: rotate(i, m)
        yield "posterize", level, 1, lambda i, m=int(bits[level]): ImageOps.posterize(i, m)
        yield "solarize", level, 1, lambda i, m=threshold[level]: ImageOps.solarize(i, m)
        for sign in (1, -1):
            yield "shear-y", level, sign, lambda i, m=sign * shear[level]: affine(i, (1, 0, 0, m, 1, 0), bicubic)
            yield "translate-x", level, sign, lambda i, m=sign * share[level]: affine(
                i, (1, 0, m * i.width, 0, 1, 0), nearest)
            yield "translate-y", level, sign, lambda i, m=sign * share[level]: affine(
                i, (1, 0, 0, 0, 1, m * i.height), nearest)
            for name in ("color", "contrast", "sharpness", "brightness"):
                enhancer = getattr(ImageEnhance, name.capitalize())
                yield name, level, sign, lambda i, e=enhancer, m=1 + sign * factor[level]: e(i).enhance(m)
    yield "auto-contrast", 0, 1, ImageOps.autocontrast
    yield "equalize", 0, 1, ImageOps.equalize
    yield "invert", 0, 1, ImageOps.invert


RESIZES = [  # left, top, width, height of the window, then the target's width and height
    (0, 0, None, None, 11, 7), (0, 0, None, None, 40, 40), (3, 2, 9, 12, 16, 16), (5, 1, 1, 1, 4, 3), (0, 4, 13, 5, 5, 9),
]


def main(folder):
    index = {"pillow": PIL.__version__, "operations": [], "resizes": RESIZES, "inputs": {}}
    ops = list(operations())
    index["operations"] = [[name, level, sign] for name, level, sign, _ in ops]
    for name, image in inputs().items():
        sheet = [np.asarray(image)] + [np.asarray(op(image)) for *_, op in ops]
        Image.fromarray(np.concatenate(sheet)).save(folder / f"augment_{name}.png", optimize=True)
        resized = []
        for left, top, width, height, w, h in RESIZES:
            window = image.crop((left, top, left + (width or image.width), top + (height or image.height)))
            resized.append(np.asarray(window.resize((w, h), Image.Resampling.BILINEAR)).flatten().tolist())
        index["inputs"][name] = {"width": image.width, "height": image.height, "resized": resized}
    (folder / "augment.json").write_text(json.dumps(index) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
