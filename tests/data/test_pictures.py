"""Pictures of every mode and format against a reference rendering, computed without the decoder.

Legend: H height, W width.
"""

import io
import struct
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image, ImageCms

from autocaption.data.broken_pictures import WithoutBroken, broken_pictures, check_pictures
from autocaption.data.manifest import Manifest
from autocaption.data.pictures import decode, read_image
from autocaption.data.sources.own_pictures import folder
from autocaption.errors import UserError

GRADIENT = np.arange(48 * 64, dtype=np.float64).reshape(48, 64) / (48 * 64 - 1)  # 0 to 1
COLOURS = np.stack([GRADIENT, GRADIENT[::-1], 1 - GRADIENT], -1)
RGB = np.rint(COLOURS * 255).astype(np.uint8)
GREY = np.rint(GRADIENT * 255).astype(np.uint8)
ALPHA = np.full((48, 64), 255, np.uint8)
ALPHA[:, :20], ALPHA[:, 20:40] = 0, 128
BLENDED = np.rint(RGB * (ALPHA / 255.0)[..., None] + 255 * (1 - ALPHA / 255.0)[..., None])


def of(values, mode=None):
    return Image.fromarray(values) if mode is None else Image.fromarray(RGB).convert(mode)


def grey(values):
    return np.repeat(np.asarray(values, np.float64)[..., None], 3, -1)


def with_alpha(mode="RGBA"):
    picture = Image.fromarray(RGB) if mode == "RGBA" else Image.fromarray(GREY)
    picture.putalpha(Image.fromarray(ALPHA))
    return picture


def palette(transparency):
    picture = Image.new("P", (30, 20), 0)
    picture.putpalette([200, 0, 0, 0, 0, 200])
    picture.paste(1, (15, 0, 30, 20))
    picture.info["transparency"] = transparency
    return picture


def halves(left, right):
    """20 rows of 15 pixels of each colour."""
    return np.repeat([[*[left] * 15, *[right] * 15]], 20, 0)


def cmyk_of(rgb):
    """CMYK without black, whose customary conversion to RGB is the complement."""
    return Image.merge("CMYK", [*Image.fromarray(255 - rgb).split(), Image.new("L", rgb.shape[1::-1], 0)])


def lab():
    """One colour, L* 60, a* 40, b* -30, as 8-bit LAB; by the CIE's formulas it is this sRGB."""
    values = np.zeros((20, 30, 3), np.uint8)
    values[:] = (round(60 * 255 / 100), 40, 256 - 30)  # a* and b* are signed bytes
    return Image.frombytes("LAB", (30, 20), values.tobytes())


def lab_reference():
    fy = (60 + 16) / 116
    f = np.array([fy + 40 / 500, fy, fy + 30 / 200])
    xyz = np.where(f > 6 / 29, f**3, 3 * (6 / 29) ** 2 * (f - 4 / 29)) * (0.9642, 1.0, 0.8249)  # D50
    to_rgb = np.array([[3.1339, -1.6169, -0.4906], [-0.9788, 1.9161, 0.0335], [0.0719, -0.2290, 1.4052]])
    linear = (to_rgb @ xyz).clip(0, 1)
    srgb = np.where(linear > 0.0031308, 1.055 * linear ** (1 / 2.4) - 0.055, 12.92 * linear)
    return np.broadcast_to(srgb * 255, (20, 30, 3))


W = 2**16 - 1
CASES = {  # picture, format, options, reference, tolerance
    "RGB": (of(RGB), "PNG", {}, RGB, 0),
    "RGB jpeg": (of(RGB), "JPEG", {"quality": 95, "subsampling": 0}, RGB, 4),
    "progressive": (of(RGB), "JPEG", {"quality": 95, "subsampling": 0, "progressive": True}, RGB, 4),
    "WebP": (of(RGB), "WEBP", {"lossless": True}, RGB, 0),
    "AVIF": (of(RGB), "AVIF", {"quality": 95}, RGB, 8),
    "BMP": (of(RGB), "BMP", {}, RGB, 0),
    "L": (of(GREY), "PNG", {}, grey(GREY), 0),
    "1": (of(GREY >= 128), "PNG", {}, grey(255.0 * (GREY >= 128)), 0),
    "16-bit grey": (of(np.rint(GRADIENT * W).astype(np.uint16)), "PNG", {}, grey(GRADIENT * 255), 0.51),
    "16-bit grey tiff": (of(np.rint(GRADIENT * W).astype(np.uint16)), "TIFF", {}, grey(GRADIENT * 255), 0.51),
    "32-bit grey of 16 bits": (
        of(np.rint(GRADIENT * W).astype(np.int32)),
        "TIFF",
        {},
        grey(GRADIENT * 255),
        0.51,
    ),
    "32-bit grey": (of((GRADIENT * 2e9 - 1e9).astype(np.int32)), "TIFF", {}, grey(GRADIENT * 255), 0.51),
    "float to 1": (of(GRADIENT.astype(np.float32) * 0.5), "TIFF", {}, grey(GRADIENT * 127.5), 0.51),
    "float to 255": (of(GRADIENT.astype(np.float32) * 200), "TIFF", {}, grey(GRADIENT * 200), 0.51),
    "float": (of(GRADIENT.astype(np.float32) * 8 - 4), "TIFF", {}, grey(GRADIENT * 255), 0.51),
    "RGBA": (with_alpha(), "PNG", {}, BLENDED, 1),
    "RGBA webp": (with_alpha(), "WEBP", {"lossless": True, "exact": True}, BLENDED, 1),
    "LA": (with_alpha("LA"), "PNG", {}, grey(GREY * (ALPHA / 255) + 255 - ALPHA), 1),
    "P": (of(RGB).quantize(200), "PNG", {}, np.array(of(RGB).quantize(200).convert("RGB")), 0),
    "transparent P": (palette(0), "PNG", {}, halves((255, 255, 255), (0, 0, 200)), 0),
    "translucent P": (palette(bytes([255, 51])), "PNG", {}, halves((200, 0, 0), (204, 204, 244)), 1),
    "GIF": (palette(1), "GIF", {}, halves((200, 0, 0), (255, 255, 255)), 0),
    "transparent colour": (
        Image.fromarray(halves((9, 8, 7), (1, 2, 3)).astype(np.uint8)),
        *("PNG", {"transparency": (1, 2, 3)}, halves((9, 8, 7), (255, 255, 255)), 0),
    ),
    "CMYK": (cmyk_of(RGB), "TIFF", {}, RGB, 1),
    "CMYK jpeg": (cmyk_of(RGB), "JPEG", {"quality": 98}, RGB, 6),
    "YCbCr": (of(RGB, "YCbCr"), "TIFF", {}, RGB, 3),
    "LAB": (lab(), "TIFF", {}, lab_reference(), 3),
    "1x1": (Image.new("RGB", (1, 1), (1, 2, 3)), "PNG", {}, np.full((1, 1, 3), (1, 2, 3)), 0),
}


def content(picture, kind, **options):
    stream = io.BytesIO()
    picture.save(stream, kind, **options)
    return stream.getvalue()


def close(picture, reference, tolerance):
    assert picture.mode == "RGB"
    assert picture.size == reference.shape[1::-1]
    assert np.abs(np.asarray(picture, np.float64) - reference).max() <= tolerance


@pytest.mark.parametrize("case", CASES)
def test_a_picture_of_each_mode(case):
    picture, kind, options, reference, tolerance = CASES[case]
    close(decode(content(picture, kind, **options), case), reference, tolerance)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(kind, orientation):
    # How a viewer must turn what was stored, by the standard's table: where row 0 and column 0 are seen.
    upright = {
        1: RGB,
        2: RGB[:, ::-1],
        3: RGB[::-1, ::-1],
        4: RGB[::-1],
        5: RGB.transpose(1, 0, 2),
        6: RGB.transpose(1, 0, 2)[:, ::-1],
        7: RGB.transpose(1, 0, 2)[::-1, ::-1],
        8: RGB.transpose(1, 0, 2)[::-1],
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"JPEG": {"quality": 95, "subsampling": 0}, "WEBP": {"lossless": True}}.get(kind, {})
    close(decode(content(of(RGB), kind, exif=exif, **options), kind), upright, 4)


@pytest.mark.parametrize("exif", [b"Exif\0\0", b"Exif\0\0II*\0\xff\xff\xff\xff", b"nonsense"])
def test_broken_exif_is_no_broken_picture(exif):
    close(decode(content(of(RGB), "JPEG", quality=95, subsampling=0, exif=exif), "x"), RGB, 4)


def linear_profile():
    """sRGB's primaries without its curve: a matrix profile whose curves are changed to gamma 1."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    tags = struct.unpack(">I", profile[128:132])[0]
    for i in range(tags):
        name, offset, _ = struct.unpack(">4sII", profile[132 + 12 * i : 144 + 12 * i])
        if name in (b"rTRC", b"gTRC", b"bTRC"):
            profile[offset : offset + 12] = b"curv" + bytes(4) + struct.pack(">I", 0)  # no entry: linear
        if name == b"desc":
            start = profile.find("sRGB".encode("utf-16-be"), offset)
            profile[start : start + 8] = "test".encode("utf-16-be")
    return bytes(profile)


def test_a_colour_profile_is_applied():
    linear = GRADIENT[..., None].repeat(3, -1)
    expected = np.where(linear > 0.0031308, 1.055 * linear ** (1 / 2.4) - 0.055, 12.92 * linear) * 255
    stored = Image.fromarray(np.rint(linear * 255).astype(np.uint8))
    close(decode(content(stored, "PNG", icc_profile=linear_profile()), "x"), expected, 7)


@pytest.mark.parametrize(
    "profile", [b"no profile", ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()]
)
def test_a_profile_that_does_not_fit_is_ignored(profile):
    close(decode(content(of(RGB), "PNG", icc_profile=profile), "x"), RGB, 0)


def test_the_srgb_profile_changes_no_pixel():
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    close(decode(content(of(RGB), "PNG", icc_profile=profile), "x"), RGB, 0)


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF"])
def test_an_animation_gives_its_first_frame(kind):
    frames = [Image.new("RGB", (20, 10), colour) for colour in ("red", "blue")]
    options = {"WEBP": {"lossless": True}}.get(kind, {})
    stored = content(frames[0], kind, save_all=True, append_images=frames[1:], **options)
    close(decode(stored, kind), np.full((10, 20, 3), (255, 0, 0)), 0)


def test_a_large_jpeg_is_decoded_at_a_fraction_but_not_below_what_is_needed(monkeypatch):
    large = content(of(RGB).resize((1600, 1200)), "JPEG", quality=95)
    assert decode(large, "x").size == (1600, 1200)
    assert decode(large, "x", least=300).size == (400, 300)
    assert decode(large, "x", least=301).size == (800, 600)
    assert decode(large, "x", least=5000).size == (1600, 1200)
    small, whole = decode(large, "x", least=300), decode(large, "x").resize((400, 300), Image.Resampling.BOX)
    assert np.abs(np.asarray(small, int) - np.asarray(whole, int)).mean() < 2


def test_the_process_keeps_its_own_limit_of_pillow(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 123)
    decode(content(Image.new("L", (3, 3)), "PNG"), "small.png", max_pixels=200)
    with pytest.raises(UserError):
        decode(content(Image.new("L", (30, 30)), "PNG"), "large.png", max_pixels=200)
    assert Image.MAX_IMAGE_PIXELS == 123


def test_a_bomb_is_refused_by_a_limit():
    bomb = content(Image.new("L", (3000, 2000)), "PNG")
    assert len(bomb) < 20_000
    with pytest.raises(UserError, match=r"3000 x 2000 pixels, more than data\.max_pixels=5999999"):
        decode(bomb, "bomb.png", max_pixels=5_999_999)
    assert decode(bomb, "bomb.png", max_pixels=6_000_000).size == (3000, 2000)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", "AVIF"])
@pytest.mark.parametrize("seed", range(6))
def test_a_damaged_file_is_a_picture_or_one_clear_error(kind, seed, tmp_path):
    random = np.random.default_rng(seed)
    stored = bytearray(content(of(RGB), kind))
    if seed % 2:
        stored = stored[: random.integers(len(stored))]
    for _ in range(20 * (seed > 1)):
        if stored:
            stored[random.integers(len(stored))] = random.integers(256)
    file = tmp_path / "some.jpg"
    file.write_bytes(stored)
    message = ""
    try:
        assert read_image(file).mode == "RGB"
    except UserError as error:
        message = str(error)
    assert not message or ("some.jpg" in message and len(message.splitlines()) == 1)


def test_a_wrong_extension_is_no_obstacle_and_no_picture_is_named(tmp_path):
    (tmp_path / "a.jpg").write_bytes(content(of(RGB), "PNG"))
    close(read_image(tmp_path / "a.jpg"), RGB, 0)
    (tmp_path / "b.png").write_text("<html>")
    with pytest.raises(UserError, match=r"b\.png \(it is not an image\)"):
        read_image(tmp_path / "b.png")
    with pytest.raises(UserError, match=r"cannot read the image"):
        read_image(tmp_path)


@pytest.fixture
def partly_broken(tmp_path):
    """A folder with six pictures in train, two of them broken, and one each in val and test."""
    rows = ["image,caption,split"]
    for i in range(8):
        (tmp_path / f"{i}.png").write_bytes(content(of(RGB), "PNG")[: 200 if i in (1, 4) else None])
        rows.append(f"{i}.png,A dog,{'train' if i < 6 else ('val', 'test')[i - 6]}")
    (tmp_path / "captions.csv").write_text("\n".join(rows))
    return folder(str(tmp_path))


def test_all_broken_pictures_are_found_and_the_first_is_named(partly_broken):
    images = partly_broken.split("train")
    assert [one.image.id for one in broken_pictures(partly_broken, images, Manifest(None))] == [
        "1.png",
        "4.png",
    ]
    with pytest.raises(UserError, match=r"1\.png .*1 more"):
        check_pictures(partly_broken, images, Manifest(None))


def test_a_broken_file_of_several_images_breaks_all_of_them(partly_broken):
    images = partly_broken.split("train")
    again = [replace(image, id=f"{image.id} again") for image in images]
    found = broken_pictures(partly_broken, [*images, *again], Manifest(None))
    assert [one.image.id for one in found] == ["1.png", "4.png", "1.png again", "4.png again"]


def test_broken_pictures_are_left_out_and_said(partly_broken, caplog):
    source = WithoutBroken(partly_broken, Manifest(None))
    assert [image.id for image in source.split("train")] == ["0.png", "2.png", "3.png", "5.png"]
    assert len(source.split("val")) == 1
    assert source.read(source.split("val")[0]).size == (64, 48)
    assert "2 of 6" in caplog.text
    assert "1.png" in caplog.text
    assert "4.png" in caplog.text
