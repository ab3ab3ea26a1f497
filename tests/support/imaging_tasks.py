"""Functions that tests run in pixel children."""

import os
import sys
import time
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from pipelines.errors import BadImageError, CropTooSmallError, ThrottledError
from pipelines.imaging.decode import decode
from pipelines.imaging.header import DecodeLimits


def echo(value: Any) -> Any:
    return value


def pid() -> int:
    return os.getpid()


def is_imported(module: str) -> bool:
    return module in sys.modules


def environment() -> dict[str, str]:
    return dict(os.environ)


def peak_memory_bytes() -> int:
    with open("/proc/self/status", encoding="ascii") as status:  # noqa: PTH123 - a child imports little
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))


def address_space_bytes() -> int:
    with open("/proc/self/status", encoding="ascii") as status:  # noqa: PTH123 - a child imports little
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmSize"))


def decoded_shape(data: bytes, limits: DecodeLimits) -> tuple[int, ...]:
    return decode(data, limits).pixels.shape


def picture(side_px: int) -> NDArray[np.uint8]:
    return np.full((side_px, side_px, 3), 7, np.uint8)


def spin(seconds: float) -> None:
    until = time.process_time() + seconds
    while time.process_time() < until:
        pass


def sleep(seconds: float) -> None:
    time.sleep(seconds)


def wait_for_file(path: str) -> None:
    while not os.path.exists(path):  # noqa: PTH110 - a child imports little
        time.sleep(0.01)


def allocate(size_bytes: int) -> int:
    return int(np.ones(size_bytes, np.uint8)[-1])


def enlarge(side_px: int) -> None:
    cv2.resize(np.zeros((8, 8, 3), np.uint8), (side_px, side_px))


def refuse(message: str) -> None:
    raise BadImageError(message, evidence="what the decoder said")


def refuse_crop() -> None:
    raise CropTooSmallError("too small")


def throttle() -> None:
    from datetime import timedelta  # noqa: PLC0415

    raise ThrottledError("not now", retry_after=timedelta(seconds=1))


def fail() -> None:
    {}["missing"]


def end_by(number: int) -> None:
    os.kill(os.getpid(), number)
    time.sleep(60)


def leave(code: int) -> None:
    os._exit(code)


def chatter() -> str:
    sys.stdout.write("noise" * 100)
    sys.stdout.flush()
    os.write(1, b"more noise")
    os.write(2, b"and here")
    return "said"


def write_file(path: str) -> None:
    with open(path, "wb") as file:  # noqa: PTH123 - a child imports little
        file.write(b"x" * 10)


class Exploit:
    """What a decoder that was taken over might send back."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("true",)


def attack() -> Exploit:
    return Exploit()


def unpicklable() -> Any:
    return lambda: None


def work_on(_picture: NDArray[np.uint8], name: str, *args: Any) -> Any:
    return globals()[name](*args)
