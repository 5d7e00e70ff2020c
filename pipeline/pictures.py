"""Pictures: decode anything that shows a portrait into 8-bit sRGB, bounded before decoding.

The content decides, never the file's name. Knows nothing of faces: a caller that has found one asks
`picture_warnings` about its box.
"""

from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError

from pipeline.errors import PictureError
from pipeline.ffmpeg import complaints

MAX_PIXELS = 24_000_000  # most pixels a portrait is worked on with; larger ones are reduced
REDUCIBLE = 4  # a picture that can't be decoded at a reduced scale may have this many times MAX_PIXELS
DRAFTABLE = 16  # a JPEG more: progressive ones are held in memory whole, at any scale of decoding
MIN_SIDE_PX = 32  # no face that can be animated fits into less
# The readers that we let near a stranger's file. Notably absent: EPS, which starts Ghostscript.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", "PPM", "JPEG2000", "AVIF")
BACKDROP = (203, 203, 203)  # light neutral grey behind transparent pictures, like a studio's
BLOCKY_QUANTISATION = 55  # mean step of a JPEG's luminance table; about quality 10

DARK_LEVEL = 48  # 90th percentile of a face's luma below this: too dark to see the mouth (0-255)
WHITE_LEVEL = 250  # luma at and above this has lost its detail
WHITE_SHARE = 0.3  # share of such pixels in a face from which it counts as overexposed
SHARPNESS_SIDE_PX = 112  # faces are judged at the size at which they are usually shown
BLURRED_LEVEL = 3.3  # percent, see `sharpness`; photographs have 3.5 to 17


@dataclass(frozen=True)
class Picture:
    """A decoded picture.

    Args:
        image: sRGB, uint8, upright, shape (H, W, 3).
        warnings: what the user should know, from a fixed vocabulary: "downscaled", "damaged", "blocky",
            "colour profile ignored".
    """

    image: np.ndarray
    warnings: tuple[str, ...] = ()


def is_picture(path: Path) -> bool:
    """Whether the file starts like a picture of a known format. Reads the header only."""
    try:
        with _open(path):
            return True
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError):
        return False


def read_picture(path: Path, max_pixels: int = MAX_PIXELS) -> Picture:
    """Decode a picture to upright 8-bit sRGB; an animation gives its first frame.

    JPEGs above `max_pixels` are decoded at 1/2, 1/4 or 1/8 scale; other formats up to `REDUCIBLE` times as
    large are reduced after decoding. What is larger still is refused from its header.

    Args:
        path: local file.
        max_pixels: most pixels of the result.
    Raises:
        PictureError: unreadable, truncated, too large or too small.
    """
    if path.stat().st_size == 0:
        raise PictureError(f"{path} is an empty file", "upload the picture again")
    try:
        with _open(path) as picture:
            return _decode(path, picture, max_pixels)
    except UnidentifiedImageError as error:
        raise PictureError(f"{path} is not a picture that can be read", "use a JPEG, PNG or WebP file") from error
    except (OSError, SyntaxError, ValueError, EOFError) as error:  # what Pillow's readers raise on damaged data
        raise PictureError(f"{path} can't be decoded: {error}", "export the picture again") from error


def picture_warnings(image: np.ndarray, box: tuple[float, float, float, float]) -> list[str]:
    """What is wrong with the picture where its face is.

    Args:
        image: sRGB, uint8, shape (H, W, 3).
        box: the face, (x0, y0, x1, y1) in pixels; clipped to the picture.
    Returns:
        Any of "dark", "overexposed", "blurred".
    """
    height, width = image.shape[:2]
    x0, y0 = max(0, int(box[0])), max(0, int(box[1]))
    x1, y1 = min(width, int(np.ceil(box[2]))), min(height, int(np.ceil(box[3])))
    if x1 - x0 < 8 or y1 - y0 < 8:
        return []
    face = Image.fromarray(image[y0:y1, x0:x1]).convert("L")
    found = []
    luma = np.asarray(face, np.float32)
    if np.percentile(luma, 90) < DARK_LEVEL:
        found.append("dark")
    if np.mean(luma >= WHITE_LEVEL) > WHITE_SHARE:
        found.append("overexposed")
    if sharpness(face) < BLURRED_LEVEL:
        found.append("blurred")
    return found


def sharpness(face: Image.Image) -> float:
    """Mean absolute Laplacian of a grey face over its contrast, in percent.

    Larger faces are first reduced to `SHARPNESS_SIDE_PX`, so that a fine photograph isn't called blurred for
    being big; smaller ones are measured as they are.
    """
    scale = SHARPNESS_SIDE_PX / max(face.size)
    if scale < 1:
        face = face.resize(
            (max(8, round(face.width * scale)), max(8, round(face.height * scale))), Image.Resampling.BOX
        )
    luma = np.asarray(face, np.float32)
    inner = luma[1:-1, 1:-1]
    laplacian = 4 * inner - luma[:-2, 1:-1] - luma[2:, 1:-1] - luma[1:-1, :-2] - luma[1:-1, 2:]
    contrast = np.percentile(luma, 95) - np.percentile(luma, 5) + 1
    return float(100 * np.abs(laplacian).mean() / contrast)


def _open(path: Path) -> Image.Image:
    Image.init()  # registers the rarer formats; does nothing the second time
    pillows_limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None  # ours depends on the format
    try:
        return Image.open(path, formats=FORMATS)
    finally:
        Image.MAX_IMAGE_PIXELS = pillows_limit


def _decode(path: Path, picture: Image.Image, max_pixels: int) -> Picture:
    found = []
    stated = picture.size
    if min(stated) < MIN_SIDE_PX:
        raise PictureError(
            f"{path} is {stated[0]} x {stated[1]} px", f"a portrait needs at least {MIN_SIDE_PX} px on each side"
        )
    if _pixels(picture) > max_pixels:
        if _pixels(picture) <= DRAFTABLE * max_pixels:
            _reduce_jpeg(picture, max_pixels)
        if _pixels(picture) > REDUCIBLE * max_pixels:
            raise PictureError(
                f"{path} is too large: {stated[0]} x {stated[1]} px, {stated[0] * stated[1] / 1e6:.0f} megapixels",
                f"scale it down to {max_pixels / 1e6:.0f} megapixels or less",
            )
    table = getattr(picture, "quantization", {}).get(0)
    if table and np.mean(table) > BLOCKY_QUANTISATION:
        found.append("blocky")
    picture.load()
    # Pillow hides what the JPEG library says of flipped bits; the second look is bounded like the first.
    if picture.format in ("JPEG", "MPO") and stated[0] * stated[1] <= max_pixels and complaints(path):
        found.append("damaged")
    if _pixels(picture) > max_pixels:
        picture = _reduced(picture, max_pixels)
    if picture.size not in (stated, stated[::-1]):
        found.append("downscaled")
    profile = picture.info.get("icc_profile")
    picture = ImageOps.exif_transpose(picture)
    picture, alpha = _eight_bit(picture)
    picture, is_managed = _to_srgb(picture, profile)
    if not is_managed:
        found.append("colour profile ignored")
    if alpha is not None:
        backdrop = Image.new("RGB", picture.size, BACKDROP)
        backdrop.paste(picture, mask=alpha)
        picture = backdrop
    return Picture(np.asarray(picture, np.uint8).copy(), tuple(found))


def _pixels(picture: Image.Image) -> int:
    return picture.width * picture.height


def _reduce_jpeg(picture: Image.Image, max_pixels: int) -> None:
    """Ask the decoder for the largest of 1/2, 1/4, 1/8 scale that fits; other formats are left as they are."""
    for divisor in (2, 4, 8):
        wanted = (picture.width // divisor, picture.height // divisor)
        if wanted[0] * wanted[1] <= max_pixels or divisor == 8:
            picture.draft(None, wanted)
            return


def _reduced(picture: Image.Image, max_pixels: int) -> Image.Image:
    if picture.mode == "P":  # palette numbers can't be averaged
        picture = picture.convert("RGBA" if "transparency" in picture.info else "RGB")
    factor = int(np.ceil(np.sqrt(_pixels(picture) / max_pixels)))
    reduced = picture.reduce(factor)
    reduced.info.update(picture.info)
    return reduced


def _eight_bit(picture: Image.Image) -> tuple[Image.Image, Image.Image | None]:
    """Split into an 8-bit colour picture (L, RGB, CMYK or LAB) and its alpha channel, if it has one that matters."""
    if picture.mode in ("I", "I;16", "I;16B", "I;16L", "I;16N", "F"):
        values = np.nan_to_num(np.asarray(picture, np.float32), posinf=0, neginf=0)
        largest = float(values.max(initial=0))
        # Samples have no stated range here: take the smallest usual one that holds them all.
        top = next((limit for limit in (1.0, 255.0, 65535.0) if largest <= limit), largest)
        if picture.mode != "F":
            top = max(top, 65535.0)
        return Image.fromarray((values.clip(0) * (255 / top) + 0.5).astype(np.uint8)), None
    if picture.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in picture.info:
        picture = picture.convert("RGBA")
        alpha = picture.getchannel("A")
        return picture.convert("RGB"), None if alpha.getextrema()[0] == 255 else alpha
    if picture.mode in ("L", "RGB", "CMYK", "LAB"):
        return picture, None
    return picture.convert("L" if picture.mode == "1" else "RGB"), None


def _to_srgb(picture: Image.Image, profile: bytes | None) -> tuple[Image.Image, bool]:
    """Apply the embedded colour profile. Returns the RGB picture and whether its profile, if any, was used."""
    if profile:
        try:
            source = ImageCms.ImageCmsProfile(BytesIO(profile))
            if source.profile.xcolor_space.strip() == "RGB":  # also found on grey pictures
                picture = picture.convert("RGB")
            converted = ImageCms.profileToProfile(picture, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
            if converted is not None:
                return converted, True
        except (ImageCms.PyCMSError, OSError):
            return picture.convert("RGB"), False
    return picture.convert("RGB"), True
