"""The report stage: the whole study on one page, from results and figures alone (called by report.ipynb)."""

import html
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from IPython.display import HTML

from asgnet.captions import CAPTIONS
from asgnet.config import load_study
from asgnet.layout import Layout
from asgnet.page import figure
from asgnet.results import find_runs
from asgnet.stages.ablation_figures import INTERVAL, AblationDrawer, FidelityDrawer, PrototypeDrawer
from asgnet.stages.figures import Drawer
from asgnet.tables import for_print

NOTEBOOKS = ("data", "superpixels", "figures", "prototypes", "fidelity", "walkthrough")
NONE = "<p>This study has no such rows.</p>"
LONG = 25  # rows of a table that is folded


class Report:
    """The parts of the page, each a piece of HTML. What a study does not have is said to be missing, never an error.

    Raises UserError where the study has not been collected yet, or where a figure is not readable."""

    def __init__(self, params: Path | str = "params.yaml") -> None:
        self.params = Path(params)
        self.study = load_study(params)
        self.layout = Layout.of(self.study)
        self.rows: dict[str, str] = {
            name: row.label for name, row in (self.study.trained | self.study.training_free).items()
        }
        self.runs = [run for run in find_runs(self.layout.results) if run.arm in self.rows]
        self.drawer = Drawer(self.study)
        self.prototypes, self.fidelity = PrototypeDrawer(self.study), FidelityDrawer(self.study)

    def head(self) -> HTML:
        """Title and label."""
        label = f'<p class="label">{html.escape(self.study.label)}</p>' if self.study.label else ""
        return HTML(f"<h1>ASGNet on <code>{self.study.data.dataset}</code></h1>{label}")

    def facts(self) -> HTML:
        """What was run, on what, for how long, from which revision."""
        study, train = self.study, self.study.train
        records = [json.loads(path.read_text()) for run in self.runs if (path := run.folder / "run.json").exists()]
        steps = [step for record in records for step in record.values()]
        trained = sum(run.trained for run in self.runs)
        episodes = sum(len(run.episodes(shots)) for run in self.runs for shots in run.shots())
        machine = Counter(f"{step['machine']['cores']} cores ({step['machine']['processor']})" for step in steps)
        versions = Counter(", ".join(f"{k} {v}" for k, v in step["libraries"].items()) for step in steps)
        facts = {
            "dataset": f"{study.data.dataset}, {study.data.size} x {study.data.size} pixels; folds "
            f"{_several(study.folds)}; random seeds {_several(study.seeds)}",
            "runs": f"{trained} trained, {len(self.runs) - trained} not trained; {episodes:,} scored episodes",
            "schedule": f"{train.epochs} epochs of {train.steps_per_epoch} steps, batch {train.batch}, "
            f"learning rate {train.lr:g}; the epoch is picked on {train.selection}",
            "computed for": f"{sum(step['seconds'] for step in steps) / 3600:.1f} hours, summed over runs",
            "revision": _counted(Counter(str(step["revision"])[:12] for step in steps)),
            "machine": _counted(machine),
            "libraries": _counted(versions),
        }
        return _table(pd.DataFrame(facts.items(), columns=["fact", "value"]))

    def arms(self) -> HTML:
        """Every row of the study and what it changes."""
        rows = []
        for name, arm in self.study.trained.items():
            changes = ", ".join(f"{key} = {value}" for key, value in (arm.model | arm.train).items())
            rows.append((name, arm.label, arm.table, changes or "nothing", self._count(name)))
        for name, row in self.study.training_free.items():
            rows.append((name, row.label, "arms", "not trained", self._count(name)))
        return _table(pd.DataFrame(rows, columns=["row", "label", "table", "changes", "runs"]))

    def parameters(self) -> HTML:
        """params.yaml as it stands."""
        text = html.escape(self.params.read_text())
        return HTML(f"<details><summary>All parameters</summary><pre>{text}</pre></details>")

    def main_table(self) -> HTML:
        """The main table."""
        return _table(self.drawer.table())

    def sentences(self) -> HTML:
        """What the comparisons with the baseline allow one to say."""
        return _findings(self.drawer.sentences())

    def gaps(self) -> HTML:
        """The overfitting gaps, a sentence each."""
        table = pd.read_csv(self.layout.results / "gap_intervals.csv")
        return _findings([
            gap_sentence(self.rows.get(row.arm, row.arm), row.gap, row.mean, row.low, row.high, row.runs)
            for row in table.itertuples()
        ])  # fmt: skip

    def figures(self, *names: str) -> HTML:
        """Figures by name, below figures/<dataset>/, with their captions."""
        return HTML("".join(map(self._figure, names)))

    def ablation(self, drawer: AblationDrawer, name: str, file: str, *tables: str) -> HTML:
        """A figure of the ablations, what its comparisons allow one to say and the rows behind it."""
        if self._rows(drawer, file, *tables) is None:
            return HTML(NONE)
        shown = (_findings(drawer.sentences(file, *tables)), _table(drawer.table(file, *tables)))
        return HTML(self._figure(f"{drawer.place}/{name}") + "".join(one.data for one in shown))

    def quality(self) -> HTML:
        """How well superpixels fit true parts, where the dataset knows them."""
        rows = self._rows(self.prototypes, "quality")
        if rows is None:
            return HTML(NONE)
        texts = []
        for measure, table in rows.groupby("measure", sort=False):
            low, high = table.loc[table["mean"].idxmin()], table.loc[table["mean"].idxmax()]
            span = f"from {low['mean']:.3g} ({low['method']}) to {high['mean']:.3g} ({high['method']})"
            texts.append(f"{measure.upper()}: {span}, mean over {low['supports']} supports.")
        return HTML(self._figure("prototypes/quality") + _items(texts) + _table(self.prototypes.quality_table()).data)

    def selection(self) -> HTML:
        """What picking the epoch on novel episodes would have added, arm by arm."""
        if self._rows(self.fidelity, "selection") is None:
            return HTML(NONE)
        table = self.fidelity.selection()
        texts = [
            f"{arm}: {added} points of mIoU on the monitored novel episodes ({INTERVAL} {between}, runs: {runs})."
            for arm, added, between, runs in table.itertuples(index=False)
        ]
        return HTML(_items(texts) + _table(table).data)

    def candidates(self) -> HTML:
        """What was tried beyond the notes: how the recipe was chosen, the recipe against every other row, and what it
        gets wrong."""
        folder, chosen = self.layout.candidates, self.study.selection.chosen
        if not (folder / "table.csv").exists():
            return HTML(NONE)
        choice = pd.read_csv(folder / "selection.csv")
        how = f"<h3>The choice of {html.escape(self.rows[chosen])}</h3>" + (
            "<p>It was not chosen here.</p>" if choice.empty else _table(self._labelled(choice).round(1)).data
        )
        found = _findings(list(pd.read_csv(folder / "comparison.csv")["sentence"])).data
        table = _table(for_print(self._labelled(pd.read_csv(folder / "table.csv")))).data
        return HTML(how + "<h3>On novel classes</h3>" + found + table + self._figure("candidates/failures"))

    def notebooks(self) -> HTML:
        """Links to the executed notebooks, as seen from the page; of training, to that of each arm's first run."""
        study, results = self.study, self.layout.results
        paths = [results / f"{name}.ipynb" for name in NOTEBOOKS]
        first = [run for run in self.runs if (run.fold, run.seed) == (study.folds[0], study.seeds[0])]
        paths += [run.folder / "train.ipynb" for run in first if run.arm in study.arms]
        links = [path.relative_to(results).as_posix() for path in paths if path.exists()]
        items = "".join(f'<li><a href="{link}">{link}</a></li>' for link in links)
        return HTML("<h2>Executed notebooks</h2>" + (f"<ul>{items}</ul>" if items else "<p>None is here.</p>"))

    @staticmethod
    def _rows(drawer: AblationDrawer, *wanted: str) -> pd.DataFrame | None:
        """Rows of the ablations, None where the study has none."""
        if not (drawer.folder / f"{wanted[0]}.csv").exists():
            return None
        rows = drawer.rows(*wanted)
        return None if rows.empty else rows

    def _labelled(self, table: pd.DataFrame) -> pd.DataFrame:
        """A table whose rows carry the labels of params.yaml."""
        return table.assign(arm=table["arm"].map(self.rows))

    def _count(self, arm: str) -> int:
        return sum(run.arm == arm for run in self.runs)

    def _figure(self, name: str) -> str:
        path = self.layout.figures / f"{name}.png"
        if not path.exists():
            return f"<p>No figure <code>{name}</code>: this study has nothing to draw in it.</p>"
        return figure(path, *CAPTIONS[name])


def gap_sentence(arm: str, gap: str, mean: float, low: float, high: float, runs: int) -> str:
    """What one row of `tables.gap_intervals` allows one to say."""
    if pd.isna(low):
        return f"{arm}, {gap}: {mean:+.1f} points of mIoU in one run, so without an interval."
    numbers = f"{INTERVAL} {low:+.1f} to {high:+.1f}; {runs} runs"
    if low <= 0 <= high:
        return f"{arm}, {gap}: no difference found ({mean:+.1f} points of mIoU, {numbers})."
    return f"{arm}, {gap}: {abs(mean):.1f} points of mIoU {'above' if mean > 0 else 'below'} ({mean:+.1f}, {numbers})."


def _findings(sentences: Sequence[str]) -> HTML:
    """Sentences as they are written by `intervals.sentence`: what is found in view, the rest folded."""
    found = [text for text in sentences if "no difference found" not in text]
    rest = [text for text in sentences if text not in found]
    if not sentences:
        return HTML("<p>Nothing is compared here.</p>")
    summary = f"<p>{len(sentences)} comparisons; a difference is found in {len(found)}.</p>"
    folded = f"<details><summary>No difference found in {len(rest)}</summary>{_items(rest)}</details>" if rest else ""
    return HTML(summary + (_items(found) if found else "") + folded)


def _items(texts: Sequence[str]) -> str:
    return "<ul>" + "".join(f"<li>{html.escape(text)}</li>" for text in texts) + "</ul>"


def _table(table: pd.DataFrame) -> HTML:
    shown = f'<div class="table">{table.to_html(index=False, border=0, justify="left", na_rep="–")}</div>'
    return HTML(shown if len(table) <= LONG else f"<details><summary>{len(table)} rows</summary>{shown}</details>")


def _counted(texts: Counter) -> str:
    """One text as it is, several with how often each was met."""
    if len(texts) == 1:
        return next(iter(texts))
    return "; ".join(f"{text} ({count})" for text, count in texts.most_common()) or "not recorded"


def _several(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers))
