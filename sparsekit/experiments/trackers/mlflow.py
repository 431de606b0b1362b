"""MLflow: runs with their settings, curves and files, on a tracking server or in a local store."""

from dataclasses import dataclass, field
from typing import Any

from sparsekit.experiments.experiment import Experiment
from sparsekit.experiments.trackers.base import News, Tracker
from sparsekit.train.history import History
from sparsekit.utils.optional import require
from sparsekit.utils.settings import to_plain

MOST = 1000  # metrics in a request, as MLflow's log_batch demands
TAG = "sparsekit.run"


@dataclass
class MLflow(Tracker):
    """Log to MLflow. A run that is continued in another process continues in MLflow too.

    Args:
        experiment: name of MLflow's experiment, which is a group of runs.
        uri: of the tracking server or store, for example "http://127.0.0.1:5000". None means MLflow's own default.

    Raises:
        ImportError: if mlflow is not installed.

    Example:
        >>> run(recipes.digits_mlp(epochs=1), callbacks=[MLflow("sparse")], progress=False)  # doctest: +SKIP

    Source: the client of MLflow, `log_batch`.
    """

    experiment: str = "sparsekit"
    uri: str | None = None
    _runs: dict[str, tuple[str, int]] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self):
        require("mlflow", install="mlflow")

    def tell(self, name: str, news: News, experiment: Experiment, history: History) -> None:
        """Log the rows that MLflow does not have, and the run's files at its end."""
        client = require("mlflow", install="mlflow").MlflowClient(tracking_uri=self.uri)
        if news.is_first:
            self._runs[name] = self._found(client, name) or self._created(client, name, experiment)
        run_id, last_step = self._runs[name]
        Metric = require("mlflow.entities", install="mlflow").Metric
        new = [row for row in news.rows if row.step > last_step]
        metrics = [Metric(row.name, row.value, timestamp=row.step, step=row.step) for row in new]
        for start in range(0, len(metrics), MOST):
            client.log_batch(run_id, metrics=metrics[start : start + MOST])
        if news.is_last:
            if history.folder is not None:
                for file in ("experiment.json", "journal"):
                    client.log_artifact(run_id, str(history.folder / file))
            client.set_terminated(run_id)

    def _group(self, client: Any) -> str:
        group = client.get_experiment_by_name(self.experiment)
        return client.create_experiment(self.experiment) if group is None else group.experiment_id

    def _found(self, client: Any, name: str) -> tuple[str, int] | None:
        """Return the id of a run that another process began, and the last step that it told."""
        runs = client.search_runs([self._group(client)], filter_string=f"tags.`{TAG}` = '{name}'")
        if not runs:
            return None
        run_id = runs[0].info.run_id
        return run_id, max((one.step for one in client.get_metric_history(run_id, "train loss")), default=-1)

    def _created(self, client: Any, name: str, experiment: Experiment) -> tuple[str, int]:
        run_id = client.create_run(self._group(client), run_name=name, tags={TAG: name}).info.run_id
        for key, value in to_plain(experiment).items():
            client.log_param(run_id, key, value)
        return run_id, -1
