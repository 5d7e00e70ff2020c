"""What a frame of SadTalker's renderer costs: the network as published, and ours.

    python -m benchmarks.facevid2vid
    python -m benchmarks.facevid2vid --size 512 --threads 8 --json facevid2vid.json

Full-size networks with the same random weights, one picture, one run. The plain forward encodes the source picture for
every frame, as the published program does; ours is `models.facevid2vid.painter` in float32, and in the precision
that it chooses for this machine, if that is another.

    ms       of one frame: process time on a CPU (other work on the machine only ever adds), wall time on CUDA
    GFLOP    of one frame, as torch counts them (a multiplication and an addition are two)
    faster   than the plain forward
    PSNR     of the frame against the plain forward's (dB), and the largest difference of 0 .. 1

Random weights exaggerate differences: nothing in them is redundant, as it is in trained ones.
"""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from models.facevid2vid.generator import Generator
from models.facevid2vid.inference import choose_precision
from models.facevid2vid.painter import Painter

KEYPOINTS = 15
GAIN = 1.1  # of weights: signals neither vanish nor explode
POWER_ITERATIONS = 3
SWING = 0.08  # standard deviation of a keypoint's motion


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=256, choices=(256, 512), help="pixels a side")
    parser.add_argument("--repeat", type=int, default=2, help="timed frames; the fastest counts")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", type=Path, default=None)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    report = measure(options.size, options.repeat, options.device)
    if options.json:
        options.json.write_text(json.dumps(report, indent=1))


@torch.inference_mode()
def measure(size: int, repeat: int, device: str) -> dict:
    """Print and return the table."""
    generator = Generator().eval()
    randomise(generator)
    generator.to(device)
    image, source, driving = (x.to(device) for x in inputs(size))
    precision = choose_precision(device)
    print(f"{size} px, {torch.get_num_threads()} thread(s), {precision.reason}")
    print(f"{'':18}{'ms':>8}{'GFLOP':>8}{'faster':>8}{'PSNR':>8}{'max diff':>10}{'source ms':>11}")
    rows: list[dict] = []

    def add(name: str, work: Callable[[], Tensor], prepare_s: float = 0.0) -> Tensor:
        """One row; the run that counts operations warms up."""
        with FlopCounterMode(display=False) as counter:
            frame = work()
        seconds = stopwatch(work, repeat, device)
        row = {"name": name, "frame_ms": seconds * 1e3, "gflop": counter.get_total_flops() / 1e9}
        rows.append(
            row | {"source_ms": prepare_s * 1e3, "faster": rows[0]["frame_ms"] / row["frame_ms"] if rows else 1}
        )
        return frame

    plain = add("plain float32", lambda: generator(image, source, driving).frame)
    rows[0] |= {"psnr": None, "max_difference": 0.0}
    show(rows[0])
    for dtype in dict.fromkeys([torch.float32, precision.dtype]):
        painter = Painter(generator, dtype).to(device)
        look = painter.look(image, source)
        prepare_s = stopwatch(lambda: painter.look(image, source), 1, device)  # noqa: B023
        frame = add(f"ours {str(dtype).removeprefix('torch.')}", lambda: painter(look, driving), prepare_s)  # noqa: B023
        error = (frame - plain).double()
        psnr = float(-10 * torch.log10(error.square().mean()))
        rows[-1] |= {"psnr": psnr, "max_difference": float(error.abs().max())}
        show(rows[-1])
    return {"size": size, "threads": torch.get_num_threads(), "precision": precision.reason, "rows": rows}


def show(row: dict) -> None:
    psnr = "" if row["psnr"] is None else f"{row['psnr']:.1f}"
    print(
        f"{row['name']:18}{row['frame_ms']:>8.0f}{row['gflop']:>8.0f}{row['faster']:>8.2f}{psnr:>8}"
        f"{row['max_difference']:>10.1e}{row['source_ms']:>11.0f}",
        flush=True,
    )


def stopwatch(work: Callable[[], object], repeat: int, device: str) -> float:
    """The shortest time of several runs, seconds."""
    clock = time.process_time if device == "cpu" else time.perf_counter
    times = []
    for _ in range(repeat):
        start = clock()
        work()
        if device != "cpu":
            torch.cuda.synchronize(device)
        times.append(clock() - start)
    return min(times)


def inputs(size: int) -> tuple[Tensor, Tensor, Tensor]:
    """A picture in 0 .. 1, its keypoints and those of a frame."""
    from PIL import Image
    from skimage.data import astronaut

    picture = np.asarray(Image.fromarray(astronaut()[:256, 96:352]).resize((size, size)))
    generator = torch.Generator().manual_seed(1)
    source = torch.rand(1, KEYPOINTS, 3, generator=generator) * 1.2 - 0.6
    driving = source + SWING * torch.randn(source.shape, generator=generator)
    return torch.tensor(picture).permute(2, 0, 1)[None].float() / 255, source, driving


def randomise(network: nn.Module) -> None:
    """Give a network random weights under which signals keep their size."""
    generator = torch.Generator().manual_seed(0)
    state = network.state_dict()
    for name, tensor in state.items():
        if name.endswith("num_batches_tracked"):
            continue
        if name.endswith("running_var"):
            tensor.uniform_(0.5, 1.5, generator=generator)
        elif tensor.ndim > 1:
            tensor.normal_(0, GAIN / tensor[0].numel() ** 0.5, generator=generator)
        elif name.endswith("weight"):
            tensor.uniform_(0.8, 1.2, generator=generator)
        else:
            tensor.normal_(0, 0.1, generator=generator)
    for name in [name for name in state if name.endswith("weight_orig")]:
        weight, prefix = state[name].flatten(1), name.removesuffix("orig")
        u, v = state[f"{prefix}u"], state[f"{prefix}v"]
        for _ in range(POWER_ITERATIONS):
            v.copy_(nn.functional.normalize(weight.T @ u, dim=0))
            u.copy_(nn.functional.normalize(weight @ v, dim=0))


if __name__ == "__main__":
    main()
