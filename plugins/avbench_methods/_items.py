"""What every method asks of the items that it starts from."""

from __future__ import annotations

from avbench.api import RequestError, Setting, check_fits


def check_items(init: str, factor: int, setting: Setting) -> None:
    """Refuse a factor that the inputs can't hold, and noise with a factor: noise packs no samples.

    Raises:
        RequestError: in words for the user.
    """
    if init == "noise" and factor > 1:
        raise RequestError(f"init = noise fills whole items: factor = {factor} has nothing to pack.")
    for name in setting.modality:
        check_fits(factor, setting.dataset.shape(name))
