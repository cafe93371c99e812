"""A k-means coreset: the real samples nearest to the centres of k-means on embeddings."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from scipy.optimize import linear_sum_assignment
from sklearn.cluster import KMeans
from threadpoolctl import threadpool_limits

from avbench.api import Prerequisite, SelectionMethod, Setting, TrainedNetwork, class_embeddings, option


@dataclass(frozen=True)
class KMeansConfig:
    features: Literal["trained", "random"] = option("trained", "embed with a trained network, or with a random one")
    restarts: int = option(4, "how often k-means starts anew; the tightest clustering counts")


class KMeansCoreset(SelectionMethod):
    """Real samples nearest to the centres of k-means on embeddings."""

    Config = KMeansConfig

    @classmethod
    def requires(cls, config: KMeansConfig, setting: Setting) -> Mapping[str, Prerequisite]:
        return {"features": TrainedNetwork()} if config.features == "trained" else {}

    def select(self, cls: int, count: int) -> Sequence[int]:
        seed = int(self.context.streams("k-means", cls=cls).integers(2**31))
        kmeans = KMeans(count, n_init=self.config.restarts, random_state=seed)
        with threadpool_limits(1):  # threads would add up in another order each time
            distances = kmeans.fit_transform(class_embeddings(self.context, cls, self.config.features).numpy())
        nearest, _ = linear_sum_assignment(distances)
        return self.context.train.class_rows(cls)[nearest].tolist()
