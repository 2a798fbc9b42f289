"""Videos decode to what was written."""

import av
import numpy as np
import pytest

from jaxpolicy.io import video


def _ramp(length=6, height=32, width=48):
    frames = np.zeros((length, height, width, 3), np.uint8)
    frames[..., 0] = 30 * np.arange(length)[:, None, None]
    frames[..., 2] = np.linspace(0, 255, width, dtype=np.uint8)
    return frames


def _decode(path):
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        frames = [frame.to_ndarray(format='rgb24') for frame in container.decode(stream)]
        return np.stack(frames), stream.codec_context, stream.average_rate


def test_round_trip(tmp_path):
    frames = _ramp()
    video.write_mp4(tmp_path / 'videos' / 'a.mp4', frames, fps=12.5)
    decoded, codec, rate = _decode(tmp_path / 'videos' / 'a.mp4')
    assert decoded.shape == frames.shape and float(rate) == 12.5
    assert (codec.name, codec.pix_fmt) == ('h264', 'yuv420p')
    assert np.abs(decoded.astype(int) - frames).mean() < 6
    assert [path.name for path in (tmp_path / 'videos').iterdir()] == ['a.mp4']


def test_odd_sizes_are_cut(tmp_path):
    video.write_mp4(tmp_path / 'a.mp4', _ramp(2, 33, 49), fps=10)
    assert _decode(tmp_path / 'a.mp4')[0].shape == (2, 32, 48, 3)


@pytest.mark.parametrize(
    'frames', [np.zeros((2, 4, 4, 3)), np.zeros((4, 4, 3), np.uint8), np.zeros((0, 4, 4, 3), 'u1')]
)
def test_bad_frames(tmp_path, frames):
    with pytest.raises(ValueError, match='frames: expected'):
        video.write_mp4(tmp_path / 'a.mp4', frames, fps=10)


def test_montage_holds_the_last_frame():
    videos = [np.full((length, 2, 3, 3), length, np.uint8) for length in (1, 3, 2)]
    videos[0][-1] = 9
    grid = video.montage(videos)
    assert grid.shape == (3, 4, 6, 3)
    assert (grid[:, :2, :3] == 9).all() and (grid[:, :2, 3:] == 3).all()
    assert (grid[:, 2:, :3] == 2).all() and (grid[:, 2:, 3:] == 0).all()
    assert video.montage(videos, num_columns=3).shape == (3, 2, 9, 3)
    with pytest.raises(ValueError, match='at least one'):
        video.montage([])
    with pytest.raises(ValueError, match='one size'):
        video.montage([videos[0], np.zeros((1, 3, 3, 3), np.uint8)])
