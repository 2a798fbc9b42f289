"""Readers of demonstration files: name -> load(path, **options) -> Episodes."""

from jaxpolicy.data import episodes
from jaxpolicy.data.formats import pusht_zarr

FORMATS = {
    'episodes': episodes.load,  # our own .npz
    'pusht_zarr': pusht_zarr.load,  # options: obs
}
