"""The conformance kit on the k-means coreset."""

import pytest
from avbench_kmeans import KMeansCoreset

from avbench.testing import Check, checks


@pytest.mark.parametrize("check", checks(KMeansCoreset), ids=str)
def test_conformance(check: Check) -> None:
    check()
