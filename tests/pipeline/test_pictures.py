"""Whatever a picture file is, it comes out upright, 8-bit sRGB and bounded, or with one clear error."""

import struct
import time
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms, ImageFilter

from pipeline.errors import PictureError
from pipeline.pictures import BACKDROP, is_picture, picture_warnings, read_picture


@pytest.fixture
def photo():
    """A smooth colourful picture, 160 x 120, that JPEG hardly changes; its corners differ."""
    y, x = np.mgrid[:120, :160]
    return Image.fromarray(np.stack([x * 255 // 160, y * 255 // 120, 255 - (x + y) * 255 // 280], -1).astype(np.uint8))


def difference(path, photo) -> float:
    return float(np.abs(read_picture(path).image.astype(int) - np.asarray(photo)).mean())


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.webp", "a.tif", "a.bmp", "a.ppm", "a.jp2"])
def test_formats(tmp_path, photo, name):
    photo.save(tmp_path / name, quality=95)
    assert difference(tmp_path / name, photo) < 3


def test_content_decides_not_the_name(tmp_path, photo):
    photo.save(tmp_path / "x.png", format="JPEG", quality=95)
    assert is_picture(tmp_path / "x.png") and difference(tmp_path / "x.png", photo) < 3


@pytest.mark.parametrize("save", [{"progressive": True}, {"subsampling": 2}])
def test_jpeg_variants(tmp_path, photo, save):
    photo.save(tmp_path / "a.jpg", quality=95, **save)
    assert difference(tmp_path / "a.jpg", photo) < 4


@pytest.mark.parametrize(("orientation", "undo"), [(3, Image.Transpose.ROTATE_180), (6, Image.Transpose.ROTATE_90)])
def test_exif_rotation_is_applied(tmp_path, photo, orientation, undo):
    exif = Image.Exif()
    exif[0x0112] = orientation
    photo.transpose(undo).save(tmp_path / "a.jpg", quality=95, exif=exif)
    assert difference(tmp_path / "a.jpg", photo) < 3


def test_cmyk_is_converted(tmp_path, photo):
    photo.convert("CMYK").save(tmp_path / "a.jpg", quality=95)
    assert difference(tmp_path / "a.jpg", photo) < 6


def test_palette_and_grey(tmp_path, photo):
    photo.quantize(256).save(tmp_path / "p.png")
    assert difference(tmp_path / "p.png", photo) < 6
    grey = photo.convert("L")
    grey.save(tmp_path / "g.png")
    assert difference(tmp_path / "g.png", grey.convert("RGB")) == 0


def test_sixteen_bits_are_scaled_not_clipped(tmp_path, photo):
    grey = photo.convert("L")
    Image.fromarray(np.asarray(grey, np.uint16) * 257).save(tmp_path / "g.png")
    assert difference(tmp_path / "g.png", grey.convert("RGB")) <= 1


def test_transparency_shows_the_backdrop(tmp_path, photo):
    alpha = Image.new("L", photo.size, 255)
    alpha.paste(0, (0, 0, 40, 120))
    photo.putalpha(alpha)
    photo.save(tmp_path / "a.png")
    image = read_picture(tmp_path / "a.png").image
    assert (image[:, :40] == BACKDROP).all()
    assert (image[:, 40:] == np.asarray(photo)[:, 40:, :3]).all()


def test_animation_gives_its_first_frame(tmp_path, photo):
    photo.quantize(256).save(tmp_path / "a.gif", save_all=True, append_images=[Image.new("P", photo.size)] * 3)
    assert difference(tmp_path / "a.gif", photo) < 8


def test_colour_profile_is_applied(tmp_path):
    grey = Image.new("RGB", (64, 64), (120, 120, 120))
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    linear = Image.new("LAB", (64, 64), (128, 128, 128))
    linear.save(tmp_path / "lab.tif", icc_profile=lab)
    grey.save(tmp_path / "bad.png", icc_profile=b"not a profile")
    assert abs(int(read_picture(tmp_path / "lab.tif").image.mean()) - 119) < 4  # L = 50 %
    bad = read_picture(tmp_path / "bad.png")
    assert bad.warnings == ("colour profile ignored",) and (bad.image == 120).all()


def test_large_jpeg_is_decoded_at_a_reduced_scale(tmp_path, photo):
    photo.resize((1600, 1200)).save(tmp_path / "a.jpg", quality=90)
    picture = read_picture(tmp_path / "a.jpg", max_pixels=500_000)
    assert picture.image.shape == (600, 800, 3) and "downscaled" in picture.warnings


def test_large_png_is_reduced_and_a_larger_one_refused(tmp_path, photo):
    photo.resize((1600, 1200)).save(tmp_path / "a.png")
    picture = read_picture(tmp_path / "a.png", max_pixels=500_000)
    assert picture.image.shape == (600, 800, 3) and picture.warnings == ("downscaled",)
    with pytest.raises(PictureError, match="2 megapixels"):
        read_picture(tmp_path / "a.png", max_pixels=400_000)


def test_bomb_is_refused_from_its_header(tmp_path):
    header = struct.pack(">IIBBBBB", 40_000, 40_000, 1, 0, 0, 0, 0)
    chunk = b"IHDR" + header
    png = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk))
    (tmp_path / "bomb.png").write_bytes(png + struct.pack(">I", 0) + b"IDAT" + struct.pack(">I", zlib.crc32(b"IDAT")))
    start = time.perf_counter()
    with pytest.raises(PictureError, match="too large"):
        read_picture(tmp_path / "bomb.png")
    assert time.perf_counter() - start < 0.5


def test_damage_is_told(tmp_path, photo):
    photo.resize((640, 480)).save(tmp_path / "a.jpg", quality=80)
    data = bytearray((tmp_path / "a.jpg").read_bytes())
    (tmp_path / "cut.jpg").write_bytes(data[: len(data) // 2])
    with pytest.raises(PictureError, match="truncated"):
        read_picture(tmp_path / "cut.jpg")
    assert read_picture(tmp_path / "a.jpg").warnings == ()


@pytest.mark.parametrize("data", [b"", b"hello, I am a text", b"\xff\xd8\xff\xe0garbage"])
def test_what_is_no_picture(tmp_path, data):
    (tmp_path / "a.jpg").write_bytes(data)
    with pytest.raises(PictureError) as caught:
        read_picture(tmp_path / "a.jpg")
    assert "a.jpg" in caught.value.message and caught.value.hint


def test_tiny_pictures_are_refused(tmp_path):
    Image.new("RGB", (1, 1)).save(tmp_path / "a.png")
    with pytest.raises(PictureError, match="1 x 1 px"):
        read_picture(tmp_path / "a.png")


def test_blocky_jpeg_is_told(tmp_path, photo):
    photo.save(tmp_path / "a.jpg", quality=3)
    assert "blocky" in read_picture(tmp_path / "a.jpg").warnings


def test_warnings_look_at_the_face_only():
    tiles = np.random.default_rng(0).integers(60, 200, (20, 20, 3), dtype=np.uint8)
    noise = np.kron(tiles, np.ones((10, 10, 1), np.uint8))
    face = (50, 50, 150, 150)
    assert picture_warnings(noise, face) == []
    dark = noise.copy()
    dark[50:150, 50:150] //= 10
    assert picture_warnings(dark, face) == ["dark"]
    bright = noise.copy()
    bright[50:150, 50:150] = np.minimum(255, bright[50:150, 50:150].astype(int) * 3)
    assert picture_warnings(bright, face) == ["overexposed"]
    soft = np.asarray(Image.fromarray(noise).filter(ImageFilter.GaussianBlur(6)))
    assert picture_warnings(soft, face) == ["blurred"]
    assert picture_warnings(noise, (500, 500, 600, 600)) == []


def test_many_hostile_pictures(shared_data):
    refused = {"1x1.png", "24px.png", "bitflips.jpg", "bomb_1600MP.png", "text.jpg", "truncated.jpg", "zero_bytes.png"}
    warned = {"huge_81MP.jpg": "downscaled", "jpeg_q3.jpg": "blocky"}
    for path in sorted((shared_data / "hostile").glob("img_*")):
        name = path.name.removeprefix("img_")
        try:
            picture = read_picture(path)
        except PictureError as error:
            assert name in refused and error.hint, error
            continue
        assert name not in refused
        assert picture.image.dtype == np.uint8 and picture.image.shape[2] == 3
        assert name not in warned or warned[name] in picture.warnings


def test_exif_variants_of_one_photo_agree(shared_data):
    pictures = [read_picture(path).image for path in sorted((shared_data / "hostile").glob("img_exif_orient*"))]
    small = [np.asarray(Image.fromarray(picture).resize((32, 32)), int) for picture in pictures]
    assert len(small) == 3
    assert all(np.abs(small[0] - other).mean() < 3 for other in small)
