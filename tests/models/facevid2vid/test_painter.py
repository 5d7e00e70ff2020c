"""The fast generator: the plain one's frames, for fewer operations."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from models.facevid2vid.generator import Generator
from models.facevid2vid.painter import Painter
from tests.models.facevid2vid.networks import pictures, points, psnr, small_generator


@pytest.fixture(scope="module")
def generator() -> Generator:
    return small_generator()


@torch.inference_mode()
def test_float32_frames_are_the_plain_forwards(generator: Generator):
    image, source, driving = pictures(1), points(1), points(3, seed=3)
    plain = generator(image.expand(3, -1, -1, -1), source.expand(3, -1, -1), driving).frame
    painter = Painter(generator)
    found = painter(painter.look(image, source), driving)
    assert float(plain.std()) > 0.05
    torch.testing.assert_close(found, plain, rtol=0, atol=1e-4)


@torch.inference_mode()
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_shorter_numbers_stay_close(generator: Generator, dtype: torch.dtype):
    image, source, driving = pictures(1), points(1), points(4, seed=3)
    full, short = Painter(generator), Painter(generator, dtype)
    expected = full(full.look(image, source), driving)
    found = short(short.look(image, source), driving)
    assert found.dtype == torch.float32
    assert psnr(found, expected) > 45


@torch.inference_mode()
def test_the_generator_stays_as_it_is(generator: Generator):
    given = pictures(1), points(1), points(1, seed=3)
    before = generator(*given).frame
    Painter(generator, torch.bfloat16)
    assert torch.equal(generator(*given).frame, before)


@torch.inference_mode()
def test_operations_of_a_frame_at_full_size():
    """Counted without computing: tensors on the meta device have shapes only."""
    with torch.device("meta"):
        generator = Generator().eval()
        image, source, driving = torch.empty(1, 3, 256, 256), torch.empty(1, 15, 3), torch.empty(1, 15, 3)
        with FlopCounterMode(display=False) as plain:
            generator(image, source, driving)
        painter = Painter(generator)
        look = painter.look(image, source)
        with FlopCounterMode(display=False) as ours:
            painter(look, driving)
    assert plain.get_total_flops() / 1e9 == pytest.approx(1203.2, abs=0.1)
    assert ours.get_total_flops() / 1e9 < 910
