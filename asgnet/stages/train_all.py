"""Training on all classes of the dataset: the network for photographs of one's own, in no table of the study."""

from asgnet.config import Study
from asgnet.data import open_dataset
from asgnet.data.episodes import base_images, draw_episodes, write_episodes
from asgnet.data.index import read_index
from asgnet.errors import UserError
from asgnet.layout import Layout
from asgnet.stages.train import run_training
from asgnet.train import Trained, monitored_splits


def train_on_all(study: Study) -> Trained:
    """Train the arm of ``predict`` on every class with enough images; episodes on held-out images pick its epoch.

    Draws as many episodes as a fold has and trains as every run does. Raises UserError for an arm whose training looks
    at novel classes (departures 3 and 8): here are none."""
    arm, drawn, layout = study.predict.arm, study.episodes, Layout.of(study)
    config = study.train_of(arm)
    if config.selection == "novel" or config.novel_pixels != "background":
        raise UserError(f"params.yaml: predict.arm: {arm} uses novel classes in training; choose an arm that does not")
    tree, index = open_dataset(study.data.dataset, study.data.root, study.data.folds_of), read_index(layout.index)
    for name in monitored_splits(None):
        images = base_images(index, tree, None, drawn.shots, name)
        episodes = draw_episodes(
            *(images, tree.classes, drawn.shots, getattr(drawn, name)),
            *(study.data.seed, f"{name}-episodes"),
            max_images=drawn.monitored_images,
        )
        write_episodes(layout.episodes(None, name), episodes)
    return run_training(study, arm, None, study.predict.seed)
