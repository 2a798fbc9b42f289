"""Frames to mp4 files that a browser plays."""

import math
import os
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np


def write_mp4(path: str | Path, frames: np.ndarray, fps: float) -> None:
    """Writes an H.264 video, atomically; odd sizes lose their last row or column.

    Args:
      path: its folder is created if missing.
      frames: [T, H, W, 3] uint8, RGB.
      fps: frames per second.

    Raises:
      ValueError: frames of another shape or dtype, none of them, or smaller than 2 x 2.
    """
    frames = np.asarray(frames)
    if frames.ndim != 4 or frames.shape[-1] != 3 or frames.dtype != np.uint8:
        raise ValueError(f'frames: expected uint8 [T, H, W, 3], found {_describe(frames)}')
    height, width = frames.shape[1] // 2 * 2, frames.shape[2] // 2 * 2
    if not (len(frames) and height and width):
        raise ValueError(f'frames: expected at least one of 2 x 2, found {_describe(frames)}')
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f'.{path.stem}.tmp.mp4')
    # faststart: the index goes first, so that a page can start playing before all of it is there.
    with av.open(str(temporary), 'w', options={'movflags': 'faststart'}) as container:
        rate = Fraction(fps).limit_denominator(1000)
        stream = container.add_stream('libx264', rate=rate, options={'crf': '23'})
        stream.width, stream.height, stream.pix_fmt = width, height, 'yuv420p'
        stream.thread_count = 2
        for frame in frames[:, :height, :width]:
            picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format='rgb24')
            container.mux(stream.encode(picture))
        container.mux(stream.encode())
    os.replace(temporary, path)


def montage(videos: Sequence[np.ndarray], num_columns: int | None = None) -> np.ndarray:
    """Videos side by side in a grid; the short ones stay on their last frame.

    Args:
      videos: [T_i, H, W, 3] uint8 each; H and W are the same for all.
      num_columns: default: as square as it gets.

    Returns:
      [max T_i, rows * H, columns * W, 3] uint8; empty cells are black.

    Raises:
      ValueError: no videos, or frames of different sizes.
    """
    if not videos:
        raise ValueError('videos: expected at least one, found none')
    sizes = {video.shape[1:] for video in videos}
    if len(sizes) > 1 or min(len(video) for video in videos) == 0:
        found = [video.shape for video in videos]
        raise ValueError(f'videos: expected frames of one size, found {found}')
    height, width, channels = sizes.pop()
    num_columns = num_columns or math.ceil(math.sqrt(len(videos)))
    num_rows = math.ceil(len(videos) / num_columns)
    length = max(len(video) for video in videos)
    grid = np.zeros((length, num_rows * height, num_columns * width, channels), np.uint8)
    for index, video in enumerate(videos):
        row, column = divmod(index, num_columns)
        top, left = row * height, column * width
        held = video[np.minimum(np.arange(length), len(video) - 1)]
        grid[:, top : top + height, left : left + width] = held
    return grid


def _describe(array: np.ndarray) -> str:
    return f'{array.dtype} {list(array.shape)}'
