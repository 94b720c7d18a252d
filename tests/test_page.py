"""The page in a real browser: what it shows, how it sorts and filters, and that every row can be reached."""

from __future__ import annotations

import csv
import io
import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browser_kit import CHROMIUM, DRIVER, Browser, browsing
from test_report import HOSTILE, failed, ok, several, words

from grainscan.report import save
from grainscan.tasks import STANDARD

pytestmark = pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="no Chromium with its driver here")
TASKS = ("graininess", "banding", "black_screen")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with browsing() as started:
        yield started


@pytest.fixture
def page(browser: Browser, tmp_path: Path) -> Iterator[Any]:
    """`page(results, width=390, …)` opens the page of these results; nothing may be said in the console."""

    def show(results: list[dict[str, Any]], tasks: tuple[str, ...] = TASKS, **window: Any) -> Browser:
        save(results, tmp_path / "page.html", "html", tasks=tasks)  # type: ignore[arg-type]
        browser.open(tmp_path / "page.html", **window)
        return browser

    yield show
    assert browser.errors() == []


def library() -> list[dict[str, Any]]:
    strong = several("x/reel 10.avi", graininess=0.6, banding=0.9, black_screen=0.1)
    strong["tasks"]["graininess"]["strength"] = 4.1
    event = {"task": "black_screen", "start": 1.0, "end": 2.5, "probability": 0.99}
    black = several("x/reel 9.avi", graininess=0.1, banding=0.2, black_screen=0.99) | {"events": [event]}
    return [
        failed("broken.avi"),
        several("clean.avi", graininess=0.3, banding=0.4, black_screen=0.0),
        strong,
        black | {"unreliable": ["too small"]},
    ]


def set_value(browser: Browser, selector: str, value: Any, event: str) -> None:
    script = "const e = document.querySelector(arguments[0]); e.value = arguments[1];"
    browser.run(f"{script} e.dispatchEvent(new Event(arguments[2]));", selector, value, event)


def test_worst_first_with_what_was_found_and_its_time(page: Any) -> None:
    shown = page(library())
    assert shown.text(".open") == ["reel 9.avi", "reel 10.avi", "clean.avi", "broken.avi"]
    assert shown.text(".pill") == ["black screen 0.99", "banding 0.90", "grainy 0.60", "clean", "error"]
    assert shown.text(".strength")[1:] == ["4.18-bit luma codes", ""]
    assert shown.text(".when small")[0] == "00:00:01:00"  # of the event
    assert shown.text(".event title") == ["00:00:01:00–00:00:02:12: 0.99"]
    assert "no frame could be decoded" in shown.text(".problem")[0]


def test_the_worst_time_is_that_of_all_reports(page: Any, tmp_path: Path) -> None:
    """Where windows look equal on the page, and where there are too many for its timeline."""
    close = ok("close.avi", windows=[{"start": k, "end": k + 0.3, "graininess": 0.962 + k / 1000} for k in range(5)])
    equal = ok("equal.avi", windows=[{"start": k, "end": k + 0.3, "graininess": 0.5} for k in (3.0, 1.0, 2.0)])
    many = ok("many.avi", windows=[{"start": k, "end": k + 1, "graininess": min(k, 500) / 600} for k in range(1000)])
    save([close, equal, many], tmp_path / "a.csv", "csv", tasks=TASKS)
    rows = {
        row["path"]: row["graininess_worst_start"]
        for row in csv.DictReader(io.StringIO((tmp_path / "a.csv").read_text()))
    }
    assert rows == {"close.avi": "4", "equal.avi": "1.0", "many.avi": "500"}
    shown = page([close, equal, many], ("graininess",))
    assert sorted(shown.text(".when small")) == ["00:00:01:00", "00:00:04:00", "00:08:20:00"]
    on_page = csv.DictReader(io.StringIO(shown.run("return csv()")))
    starts = {row["path"]: float(row["graininess_worst_start"]) for row in on_page}
    assert starts == {"close.avi": 4, "equal.avi": 1, "many.avi": 500}


def test_filters_and_orders(page: Any) -> None:
    shown = page(library())
    set_value(shown, "#artifact", "1", "change")
    assert shown.text("#artifact option") == ["any artifact", "graininess (1)", "banding (1)", "black screen (1)"]
    assert shown.text(".open")[:2] == ["reel 10.avi", "clean.avi"]
    assert shown.text(".pill")[:2] == ["banding 0.90", "no banding"]
    shown.click(".chip[data-show=found]")
    assert shown.text(".open") == ["reel 10.avi"] and shown.text("#count") == ["1 of 4"]
    shown.click(".chip[data-show=unreliable]")
    assert shown.text(".open") == ["reel 9.avi"]
    shown.click(".chip[data-show=error]")
    assert shown.text(".open") == ["broken.avi"]
    shown.click(".chip[data-show=all]")
    for _ in range(2):
        shown.click(".head button", 0)
    assert shown.text(".open") == ["reel 10.avi", "reel 9.avi", "clean.avi", "broken.avi"]
    assert shown.text("[aria-sort=descending]") == ["File"]
    set_value(shown, "#order", "name 1", "change")
    assert shown.text(".open")[0] == "reel 10.avi"
    set_value(shown, "#search", "REEL 1", "input")
    assert shown.text(".open") == ["reel 10.avi"]


def test_a_threshold_relabels_at_once_and_the_csv_file_follows(page: Any) -> None:
    shown = page(library())
    assert shown.text("#found, #clean") == ["2", "1"]
    set_value(shown, "input[type=range]", "0.25", "input")
    assert shown.text("#found, #clean") == ["3", "0"]
    assert shown.text(".spread output")[0] == "threshold 0.25" and "2 grainy" in shown.text(".top span")[0]
    assert shown.text(".pill") == ["black screen 0.99", "banding 0.90", "grainy 0.60", "grainy 0.30", "error"]
    rows = {row["path"]: row for row in csv.DictReader(io.StringIO(shown.run("return csv()")))}
    assert rows["clean.avi"]["graininess_label"] == "1" and rows["clean.avi"]["graininess_threshold"] == "0.25"
    assert rows["clean.avi"]["banding_label"] == "0" and rows["broken.avi"]["status"] == "error"
    assert rows["x/reel 9.avi"]["black_screen_worst_timecode"] == "00:00:01:00"
    shown.click(".reset")
    assert shown.text("#found, #clean") == ["2", "1"] and shown.text(".spread output")[0] == "threshold 0.5"


def test_details_describe_the_grain(page: Any) -> None:
    grain = {"strength": 4.1, "interval": [3.8, 4.5], "size": {"horizontal": 1.6, "vertical": 1.5}}
    grain |= {"pattern": "temporal", "film_grain_level": 41}
    shown = page([several("a.avi", graininess=0.9, banding=0.1) | {"grain": grain}])
    shown.click(".open")
    assert "grain4.1 codes (3.8–4.5), 1.6×1.5 px, SVT-AV1 --film-grain 41" in shown.text("#sheet")[0]


def test_details_of_a_file(page: Any) -> None:
    views = [{"window": 0, "x": x, "y": 0, "size": 64, "graininess": p} for x, p in ((0, 0.0), (1856, 1.0))]
    shown = page([ok("a.avi", map=views), ok("b.avi", 0.2)], ("graininess",))
    shown.click(".open")
    assert shown.text("#details-name") == ["a.avi"]
    details = shown.text("#sheet")[0]
    for part in ("probability 0.970", "strength 4.10 8-bit luma codes (standard deviation)", "highest at 00:01:23:06"):
        assert part in details
    for part in ("1920 × 1080 pixels", "0.7 s (0.56 % of it) in 2 windows", "24 frames per second"):
        assert part in details
    pixels = shown.run("""const context = document.querySelector(".map canvas").getContext("2d");
        return [...context.getImageData(0, 2, 32, 1).data]""")
    assert pixels[0] < 110 and pixels[-4] > 190 and len(shown.text(".map rect title")) == 2
    shown.click("#next")
    assert shown.text("#details-name") == ["b.avi"] and shown.run("return document.getElementById('next').disabled")
    shown.click("#close")
    assert not shown.run("return document.getElementById('details').open")


@pytest.mark.parametrize("width", [390, 1280])
def test_every_row_can_be_reached_and_nothing_is_wider_than_the_window(page: Any, width: int) -> None:
    shown = page([ok(f"clip {k}.avi", 1 - k / 5000) for k in range(3000)], ("graininess",), width=width)
    assert shown.run("return document.documentElement.scrollWidth") <= width
    assert shown.run("return document.querySelectorAll('.body .row').length") < 60
    jump = """const rows = document.getElementById("rows");
        window.scrollTo(0, rows.getBoundingClientRect().top + window.scrollY + arguments[0] * rows.offsetHeight);
        return new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => done(
          [...document.querySelectorAll(".body .row")].filter((row) => row.getBoundingClientRect().bottom > 0
          && row.getBoundingClientRect().top < innerHeight).map((row) => row.querySelector(".open").textContent)))))"""
    assert "clip 1500.avi" in shown.run(jump, 0.5)
    assert "clip 2999.avi" in shown.run(jump, 1.0)
    assert "clip 0.avi" in shown.run(jump, 0.0)


@pytest.mark.bench
def test_twenty_thousand_files_of_ten_tasks_are_sorted_in_200_milliseconds(page: Any, tmp_path: Path) -> None:
    tasks, rng = tuple(task.name for task in STANDARD), random.Random(0)
    shown = page(
        [several(f"reel {k % 99}/take {k}.mov", **{task: rng.random() ** 4 for task in tasks}) for k in range(20_000)],
        tasks,
    )
    assert (tmp_path / "page.html").stat().st_size < 25e6
    sort = """const head = document.querySelectorAll(".head button")[arguments[0]], times = [];
        for (let k = 0; k < 5; k++) {
          const begun = performance.now();
          head.click();
          document.body.offsetHeight;
          times.push(performance.now() - begun);
        }
        return Math.min(...times);"""
    for column in range(5):
        assert shown.run(sort, column) < 200


def test_hostile_names_are_shown_and_do_nothing(page: Any) -> None:
    shown = page([ok(f"folder/{name}") for name in HOSTILE], ("graininess",))
    labels = shown.run("return [...document.querySelectorAll('.open')].map((e) => e.getAttribute('aria-label'))")
    assert set(labels) <= {words.printable(f"folder/{name}") for name in HOSTILE} and len(set(labels)) == len(labels)
    assert shown.run("return document.querySelectorAll('img, table script').length") == 0
    table = list(csv.reader(io.StringIO(shown.run("return csv()"))))
    assert len(table) == len(HOSTILE) + 1


@pytest.mark.parametrize("dark", [False, True])
def test_text_stands_out_in_both_colour_schemes(page: Any, dark: bool) -> None:
    """A contrast of 4.5 to 1 (WCAG 2.2, 1.4.3) between each text and what is behind it."""
    shown = page(library(), dark=dark)
    shown.click(".open")
    measure = """
        const rgb = (text) => (text.match(/[\\d.]+/g) ?? []).map(Number);
        const linear = (v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
        const light = ([r, g, b]) => 0.2126 * linear(r / 255) + 0.7152 * linear(g / 255) + 0.0722 * linear(b / 255);
        const back = (element) => rgb(getComputedStyle(element).backgroundColor);
        const opaque = (colour) => colour.length === 3 || colour[3] === 1;
        const faint = [];
        const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
        for (let node; (node = walker.nextNode());) {
          const element = node.parentElement;
          if (!node.data.trim() || !element.checkVisibility()) continue;
          if (element.closest("script, svg, option, :disabled")) continue;
          let behind = element;
          while (!opaque(back(behind)) && behind !== document.body) behind = behind.parentElement;
          const one = light(rgb(getComputedStyle(element).color)), other = light(back(behind));
          const ratio = (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
          if (ratio < 4.5) faint.push(`${node.data.trim()}: ${ratio.toFixed(2)}`);
        }
        return faint;"""
    assert shown.run(measure) == []
    background = shown.run("return getComputedStyle(document.body).backgroundColor")
    assert background == ("rgb(20, 23, 26)" if dark else "rgb(251, 250, 248)")


@pytest.mark.skipif(
    "AXE_CORE" not in os.environ, reason="AXE_CORE does not name axe.min.js of the npm package axe-core"
)
@pytest.mark.parametrize(
    "window", [{}, {"width": 390, "height": 844}, {"dark": True}], ids=["desktop", "phone", "dark"]
)
def test_axe_finds_nothing_to_complain_about(page: Any, window: dict[str, Any]) -> None:
    view = {"window": 0, "x": 0, "y": 0, "size": 64, "graininess": 0.9, "banding": 0.9}
    shown = page([*library(), several("mapped.avi", graininess=0.9, banding=0.9) | {"map": [view]}], **window)
    check = Path(os.environ["AXE_CORE"]).read_text() + "; return axe.run().then((found) => found.violations)"
    assert shown.run(check) == []
    shown.click(".open")
    assert shown.run(check) == []


def test_names_of_buttons_are_unique(page: Any) -> None:
    shown = page([ok("a/same.avi"), ok("b/same.avi")])
    names = shown.run("""return [...document.querySelectorAll("button, input, select")]
        .filter((e) => e.checkVisibility()).map((e) => e.getAttribute("aria-label") ?? e.textContent)""")
    assert len(set(names)) == len(names) and all(names)
