"""The collecting stage: all runs of a study into its tables."""

from asgnet.config import Study
from asgnet.data import open_classes
from asgnet.files import atomic_path
from asgnet.layout import Layout
from asgnet.results import find_runs, histories
from asgnet.tables import comparison, gap_intervals, gaps, main_table, summary, write_table


def collect(study: Study) -> None:
    """Write summary.csv (tidy), comparison.csv, main_table.{csv,tex,md} and gaps.csv under results/<dataset>/."""
    results = Layout.of(study).results
    runs = find_runs(results, [*study.training_free, *study.arms])
    classes = open_classes(study.data.dataset, study.data.root)
    found = gaps(histories(runs))
    tables = {
        "summary": summary(runs, classes, study.train.shots),
        "comparison": comparison(runs),
        "gaps": found,
        "gap_intervals": gap_intervals(found),
    }
    for name, table in tables.items():
        with atomic_path(results / f"{name}.csv") as temporary:
            table.to_csv(temporary, index=False)
    write_table(main_table(runs), results / "main_table", study.label)
