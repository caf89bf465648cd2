"""A tiny data set in Flickr8k's original layout."""

from PIL import Image

SPLITS = {
    "train": ("trainImages", ["t1.jpg", "t0.jpg", "t2.jpg"]),
    "val": ("devImages", ["v0.jpg", "v1.jpg"]),
    "test": ("testImages", ["e0.jpg"]),
}


def write_flickr8k(root):
    """Five captions an image, and captions of one image in no split."""
    pictures, texts = root / "Flicker8k_Dataset", root / "Flickr8k_text"
    pictures.mkdir(parents=True)
    texts.mkdir()
    lines = [f"stray.jpg.1#{k}\tNobody sees me ." for k in range(5)]
    for split, (name, files) in SPLITS.items():
        (texts / f"Flickr_8k.{name}.txt").write_text("\n".join(files) + "\n")
        for i, file in enumerate(files):
            noise = Image.effect_noise((40 + i, 32), 90)
            Image.merge("RGB", [noise] * 3).save(pictures / file)
            lines += [f"{file}#{k}\tCaption {k} of the {split} image {file[:2]} , whole ." for k in range(5)]
    (texts / "Flickr8k.token.txt").write_text("\n".join(lines) + "\n")
    return root
