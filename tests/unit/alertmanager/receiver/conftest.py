"""A receiver for the tests of this folder."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.receivers import Receiver


@pytest.fixture
def receiver(tmp_path: Path) -> Iterator[Receiver]:
    built = Receiver(tmp_path)
    yield built
    built.close()
