"""The report: one page from a study's tables and figures, or from what there is of them."""

import json
import re
from html.parser import HTMLParser

import nbformat
import pandas as pd
import pytest
import yaml
from PIL import Image
from study import write_study
from tiny import ROOT

from asgnet import captions
from asgnet.errors import UserError
from asgnet.page import WIDTH, figure, write_page
from asgnet.results import find_runs, histories
from asgnet.stages.report import NONE, Report, _findings, gap_sentence
from asgnet.tables import comparison, gap_intervals, gaps, main_table

FIGURES = ["test_miou", "differences", "prototypes/counts"]


@pytest.fixture
def params(tmp_path, monkeypatch):
    """A made-up study, collected, with a few figures and without ablations."""
    monkeypatch.chdir(tmp_path)
    study = yaml.safe_load((ROOT / "params.yaml").read_text())
    study |= {"label": "made up <here>", "seeds": [1, 2]}
    study["arms"] = {name: study["arms"][name] for name in ("baseline", "vit_patch")}
    study["ablation"]["arms"] = ["baseline"]
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(study))
    results = write_study(tmp_path / "results/parts")
    runs = find_runs(results, ["baseline", "vit_patch", "all_foreground"])
    main_table(runs).to_csv(results / "main_table.csv", index=False)
    comparison(runs).to_csv(results / "comparison.csv", index=False)
    table = gaps(histories(runs))
    table.to_csv(results / "gaps.csv", index=False)
    gap_intervals(table).to_csv(results / "gap_intervals.csv", index=False)
    for name in FIGURES:
        path = tmp_path / "figures/parts" / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (1400, 200), "white").save(path)
    (results / "figures.ipynb").touch()
    step = {"revision": "0123456789abcdef", "seconds": 1800, "libraries": {"torch": "2.9"}}
    step["machine"] = {"cores": 2, "processor": "x86_64"}
    (results / "baseline/fold0/seed1/run.json").write_text(json.dumps({"train": step, "test": step}))
    return tmp_path / "params.yaml"


def cells() -> list[str]:
    """What report.ipynb asks of the report, call by call."""
    notebook = nbformat.read(ROOT / "notebooks/report.ipynb", as_version=4)
    code = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "code")
    return re.findall(r"report\.\w+\([^()]*\)", code)


def test_every_part_of_the_page_is_made_where_there_are_no_ablations(params):
    report = Report(params)
    parts = {call: eval(call, {"report": report}).data for call in cells()}
    assert len(parts) >= 18
    assert "made up &lt;here&gt;" in parts["report.head()"]
    facts = parts["report.facts()"]
    assert "16 trained, 4 not trained; 1,600 scored episodes" in facts
    assert "0123456789ab" in facts
    assert "1.0 hours" in facts
    assert "vit = patch" in parts["report.arms()"]
    assert "area_per_seed: 100.0" in parts["report.parameters()"]
    assert "+ ViT tokens [:, 1:197]" in parts["report.main_table()"]
    assert "vit_patch against baseline, 1-shot" in parts["report.sentences()"]
    assert "train - novel" in parts["report.gaps()"]
    assert all(part == NONE for call, part in parts.items() if "ablation(" in call)
    assert parts["report.quality()"] == parts["report.selection()"] == parts["report.candidates()"] == NONE
    assert 'href="figures.ipynb"' in parts["report.notebooks()"]
    assert "nothing to draw" in parts['report.figures("curves", "gaps")']


def test_the_notebook_shows_every_figure_that_has_a_caption():
    code = "".join(cells())
    shown = {*re.findall(r'"([^"]+)"', "".join(call for call in cells() if "figures(" in call))}
    shown |= {f"{place}/{name}" for place, name in re.findall(r'report\.(\w+), "(\w+)"', code)}
    assert shown | {"prototypes/quality", "candidates/failures"} == set(captions.CAPTIONS)


def test_the_captions_name_the_figures_that_the_study_draws():
    drawn = {path.relative_to(ROOT / "figures/parts") for path in (ROOT / "figures/parts").rglob("*.png")}
    assert {path.with_suffix("").as_posix() for path in drawn} == set(captions.CAPTIONS)


def test_an_ablation_has_its_figure_sentences_and_rows(params):
    report = Report(params)
    row = {"table": "count", "arm": "", "shots": 1, "fold 0": 50.0, "mean": 50.0, "low": 40.0, "high": 60.0, "seeds": 2}
    one = row | {"setting": "ASGNet on Lite0"}
    two = row | {"setting": "N_max 1", "reference": "ASGNet on Lite0", "difference": 1.0, "difference_low": 0.5}
    two |= {"difference_high": 1.5, "p": 0.01, "p_holm": 0.02, "sentence": "count: 1.0 points of mIoU above."}
    report.prototypes.folder.mkdir(parents=True)
    pd.DataFrame([one, two]).to_csv(report.prototypes.folder / "trained.csv", index=False)
    part = report.ablation(report.prototypes, "counts", "trained", "count").data
    assert "a difference is found in 1" in part
    assert "<td>N_max 1</td>" in part
    assert "data:image/" in part
    assert report.ablation(report.prototypes, "allocation", "trained", "allocation").data == NONE


def test_candidates_have_their_choice_their_comparisons_and_their_failures(params):
    report = Report(params)
    runs = find_runs(report.layout.results, ["baseline", "vit_patch", "all_foreground"])
    folder = report.layout.candidates
    folder.mkdir(parents=True)
    main_table(runs).to_csv(folder / "table.csv", index=False)
    comparison(runs, "vit_patch").to_csv(folder / "comparison.csv", index=False)
    columns = ["arm", "shots", "legs", "mean"]
    pd.DataFrame(columns=columns).to_csv(folder / "selection.csv", index=False)
    part = report.candidates().data
    assert f"The choice of {report.study.candidates.arms['together'].label}" in part
    assert "It was not chosen here." in part
    assert "all_foreground against vit_patch, 1-shot" in part
    assert "<td>+ ViT tokens [:, 1:197]</td>" in part
    assert "No figure <code>candidates/failures</code>" in part
    pd.DataFrame([["together", 1, 61.28, 61.28]], columns=columns).to_csv(folder / "selection.csv", index=False)
    part = report.candidates().data
    assert "It was not chosen here." not in part
    assert "<td>61.3</td>" in part


def test_findings_stand_in_view_and_the_rest_is_folded():
    text = _findings(["a: 1.0 points above.", "b: no difference found (x)."]).data
    assert text.index("a: 1.0") < text.index("<details>") < text.index("b: no")
    assert "Nothing is compared" in _findings([]).data


@pytest.mark.parametrize(
    ("numbers", "said"),
    [
        ((2.0, 1.0, 3.0, 8), "2.0 points of mIoU above (+2.0, 95% interval +1.0 to +3.0; 8 runs)"),
        ((-2.0, -5.0, 1.0, 8), "no difference found (-2.0 points"),
        ((2.0, float("nan"), float("nan"), 1), "+2.0 points of mIoU in one run, so without an interval"),
    ],
)
def test_a_gap_is_said_in_a_sentence(numbers, said):
    assert said in gap_sentence("baseline", "train - val", *numbers)


def test_a_picture_is_embedded_thin_with_its_alt_text(tmp_path):
    Image.effect_noise((1400, 700), 60).convert("RGB").save(tmp_path / "photo.png")
    Image.new("RGB", (300, 200), "red").save(tmp_path / "drawing.png")
    photo = figure(tmp_path / "photo.png", "A photo.", 'noise "here"')
    assert f'width="{WIDTH}" height="500"' in photo
    assert "data:image/jpeg" in photo
    assert 'alt="noise &quot;here&quot;"' in photo
    assert "data:image/png" in figure(tmp_path / "drawing.png", "", "")
    (tmp_path / "broken.png").write_bytes(b"no picture")
    with pytest.raises(UserError, match=r"broken.png: not readable as a picture"):
        figure(tmp_path / "broken.png", "", "")


class Links(HTMLParser):
    """Addresses that a page loads or leads to."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag, attrs):
        self.found += [value for name, value in attrs if name in ("src", "href")]


def test_the_page_has_outputs_without_code_and_fetches_nothing(tmp_path):
    cell = nbformat.v4.new_code_cell("secret_name = 1", execution_count=1)
    cell.outputs = [nbformat.v4.new_output("display_data", {"text/html": "<h1>A <code>study</code></h1>"})]
    notebook = nbformat.v4.new_notebook(cells=[cell, nbformat.v4.new_markdown_cell("## Next")])
    nbformat.write(notebook, tmp_path / "in.ipynb")
    write_page(tmp_path / "in.ipynb", tmp_path / "out/page.html")
    page = (tmp_path / "out/page.html").read_text()
    assert "<title>A study</title>" in page
    assert "secret_name" not in page
    assert "Next" in page
    links = Links()
    links.feed(page)
    assert not links.found
    assert not re.search(r"<script|@import|url\(", page)


def test_the_committed_report_is_of_the_committed_study():
    page = (ROOT / "results/parts/report.html").read_text()
    links = Links()
    links.feed(page)
    pictures = [link for link in links.found if link.startswith("data:image/")]
    assert len(pictures) == len(captions.CAPTIONS)
    assert all((ROOT / "results/parts" / link).exists() for link in links.found if link not in pictures)
    assert len(page) < 3_000_000
