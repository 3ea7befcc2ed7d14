"""Sliders and dropdowns over an Explorer, and the picture that follows them."""

import gc
from typing import Any

from IPython.display import DisplayHandle, Image, display
from ipywidgets import HTML, Dropdown, HBox, IntSlider, SelectionSlider, VBox

from asgnet.look.explore import Explorer
from asgnet.plots.tiles import png
from asgnet.plots.trace import overview

ENDS = {"max_seeds": 9, "iterations": 20, "shots": 5}  # how far the sliders go


class Panel:
    """Controls for arm, class, episode, most seed cells (N_max), iterations, shots and the support that is shown.

    The picture is an output of its own, drawn once and replaced when a control moves: where nobody moves any, as under
    papermill, it stays what the parameters say. Raises what `Explorer.trace` raises.
    """

    def __init__(
        self,
        explorer: Explorer,
        arm: str,
        fold: int,
        seed: int,
        class_name: str,
        episode: int,
        max_seeds: int | None = None,
        iterations: int | None = None,
        shots: int | None = None,
    ) -> None:
        explorer.trace(arm, fold, seed, class_name, episode, max_seeds, iterations, shots)  # a wrong one, at once
        self.explorer, self.fold, self.seed = explorer, fold, seed
        self._own = explorer.own(arm, fold, seed)
        given = {"max_seeds": max_seeds, "iterations": iterations, "shots": shots}
        start = self._own | {name: value for name, value in given.items() if value is not None}
        ends = {name: max(end, start[name]) for name, end in ENDS.items()}
        ends["shots"] = min(ends["shots"], explorer.most_shots(fold))
        arms = [(explorer.study.arm(name).label, name) for name in explorer.arms(fold, seed)]
        numbers = explorer.numbers(fold, class_name)
        look = {"style": {"description_width": "80px"}, "layout": {"width": "320px"}}
        lazy = look | {"continuous_update": False}  # when it is let go
        self.arm = Dropdown(options=arms, value=arm, description="arm", **look)
        self.class_name = Dropdown(options=explorer.classes(fold), value=class_name, description="class", **look)
        self.episode = SelectionSlider(options=numbers, value=episode, description="episode", **lazy)
        self.max_seeds = IntSlider(start["max_seeds"], 1, ends["max_seeds"], description="N_max", **lazy)
        self.iterations = IntSlider(start["iterations"], 0, ends["iterations"], description="iterations", **lazy)
        self.shots = IntSlider(start["shots"], 1, ends["shots"], description="shots", **lazy)
        self.shown = IntSlider(1, 1, start["shots"], description="support", **lazy)
        self.message = HTML()
        self.picture = b""  # PNG
        self._handle: DisplayHandle | None = None
        self._settling = False
        for control in self.controls:
            control.observe(self._moved, "value")

    @property
    def controls(self) -> list:
        """What `Explorer.trace` takes, and the support that is shown."""
        return [self.arm, self.class_name, self.episode, self.max_seeds, self.iterations, self.shots, self.shown]

    def show(self) -> None:
        """Put the controls and the picture under the cell."""
        self.redraw()
        controls = self.controls
        display(VBox([HBox(controls[:3]), HBox(controls[3:6]), HBox([self.shown, self.message])]))
        self._handle = display(Image(self.picture), display_id=True)
        # Every tenth redraw would wait half a second for the collector to go through all that is loaded by now.
        gc.unfreeze()
        gc.collect()
        gc.freeze()

    def redraw(self) -> None:
        """Draw what the controls say."""
        arm, *chosen, shown = (control.value for control in self.controls)
        trace = self.explorer.trace(arm, self.fold, self.seed, *chosen)
        self.picture = png(overview(trace, shown - 1, self.explorer.study.label))
        self.message.value = f"IoU {trace.iou:.1f} %"
        if self._handle is not None:
            self._handle.update(Image(self.picture))

    def _moved(self, change: dict[str, Any]) -> None:
        """One control moved: those that depend on it follow, then the picture is drawn once. An error is raised, and
        stands beside the controls, since a front end shows no traceback."""
        if self._settling:
            return
        self._settling = True
        try:
            if change["owner"] is self.class_name:
                self.episode.options = self.explorer.numbers(self.fold, change["new"])
            elif change["owner"] is self.arm:
                self._follow(self.explorer.own(change["new"], self.fold, self.seed))
            self.shown.max = self.shots.value
            self.redraw()
        except Exception as error:
            self.message.value = f"<b>{type(error).__name__}: {error}</b>"
            raise
        finally:
            self._settling = False

    def _follow(self, own: dict[str, int]) -> None:
        """Sliders at the old arm's own number go to the new arm's; those that were moved stay."""
        for name, before in self._own.items():
            slider = getattr(self, name)
            if slider.value == before:
                slider.max = max(slider.max, own[name])
                slider.value = own[name]
        self._own = own
