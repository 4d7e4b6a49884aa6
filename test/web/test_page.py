"""What a person does on the page, in a real Chromium, with the real node."""

from __future__ import annotations

import csv
import io
import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from web_rig import ROOT, Rig, until

DEMO = ROOT / "stream_vl_ros" / "data" / "demo_bag" / "demo_bag.mcap"
EVIL = "<script>alert(1)</script>"


def newest_id(page: Any) -> int:
    entries = page.locator(".entry")
    return int(entries.first.get_attribute("data-id")) if entries.count() else 0


def ask(page: Any, question: str, *, choices: str = "", regex: str = "", tokens: int = 0) -> Any:
    """Ask on the page; the answer's card."""
    newest = newest_id(page)
    page.locator("#more").evaluate("(more) => { more.open = true; }")
    page.fill("#choices", choices)
    page.fill("#regex", regex)
    page.fill("#max-tokens", str(tokens) if tokens else "")
    page.fill("#question", question)
    page.click("#send")
    entries = page.locator(".entry")

    def mine() -> str | None:
        for i in range(min(entries.count(), 5)):
            card = entries.nth(i)
            number = card.get_attribute("data-id")
            if int(number) > newest and card.locator(".question").text_content() == question:
                return number
        return None

    return page.locator(f".entry[data-id='{until(mine, 'the question is in the history')}']")


def state(card: Any, *wanted: str) -> str:
    """The card's state, once it is one of these."""
    return str(until(lambda: (s := now(card)) in wanted and s, lambda: f"the answer is {wanted}, not {now(card)}"))


def now(card: Any) -> str:
    return str(card.get_attribute("data-state"))


def text(locator: Any) -> str:
    return str(locator.text_content()).replace("\u00a0", " ")


def wait_for_video(page: Any) -> None:
    """Until the node has seen some."""
    until(lambda: re.search(r"Ingested[1-9]", text(page.locator("#frames-list"))), "the node has seen video")


def wait_for_frames(card: Any) -> None:
    until(lambda: card.locator(".thumb img").count(), "the answer has pictures")


def test_pictures_keep_coming(page):
    first = int(page.get_attribute("#live", "data-number"))
    until(lambda: int(page.get_attribute("#live", "data-number")) > first + 3, "more pictures")
    assert page.locator("#live").evaluate("(image) => image.naturalWidth") == 112
    assert re.match(r"\d\d:\d\d:\d\d\.\d  /camera/image_raw", text(page.locator("#caption")))
    assert page.locator("#camera-label").is_hidden()


def test_an_answer_is_shown_as_it_is_written(page):
    card = ask(page, "Write.", regex="(a|b){300}", tokens=400)
    lengths = set()

    def done() -> bool:
        lengths.add(len(text(card.locator(".answer"))))
        return now(card) not in ("waiting", "writing")

    until(done, lambda: f"the answer is complete, not {now(card)}")
    assert now(card) == "done", text(card)
    assert len(lengths) > 3
    assert len(text(card.locator(".answer"))) == 300
    assert "first token" in text(card.locator(".meta")) and "tokens/s" in text(card.locator(".meta"))
    assert text(page.locator("#overlay-question")) == "Write."


def test_stop_ends_one(page):
    card = ask(page, "Write on.", regex="(a|b){30000}", tokens=40000)
    state(card, "writing")
    page.locator("#question").press("Escape")
    assert state(card, "stopped", "done", "failed") == "stopped"
    written = text(card.locator(".answer"))
    assert 0 < len(written) < 30000 and set(written) <= {"a", "b"}
    assert text(card.locator(".error")) == "Stopped."
    until(lambda: "0 now" in text(page.locator("#speed-list")), "the node has nothing to do")


def test_the_moment_of_an_answer(page):
    card = ask(page, "What is visible now?")
    state(card, "done")
    wait_for_frames(card)
    assert re.search(r"saw .* frames", text(card.locator(".meta")))
    card.locator(".answer").click()
    dialog = page.locator("#moment")
    assert dialog.is_visible()
    assert text(dialog.locator("#moment-answer")) == text(card.locator(".answer"))
    until(
        lambda: dialog.locator("#moment-large").evaluate("(image) => image.naturalWidth") == 112, "the picture is there"
    )
    newest = text(dialog.locator("#moment-time"))
    assert re.match(r"\d\d:\d\d:\d\d\.\d", newest)
    if dialog.locator("#moment-strip button").count() > 1:
        dialog.locator("#moment-strip button").last.focus()
        page.keyboard.press("ArrowLeft")
        assert text(dialog.locator("#moment-time")) != newest
    page.keyboard.press("Escape")
    assert dialog.is_hidden()


def test_choices_are_bars(page):
    card = ask(page, "Is there a circle?", choices="yes, no")
    state(card, "done")
    bars = card.locator(".bar")
    assert bars.count() == 2 and card.locator(".bar.best .name").text_content() == text(card.locator(".answer"))
    parts = [float(text(bars.nth(i).locator(".number")).removesuffix(" %")) for i in range(2)]
    assert sum(parts) == pytest.approx(100, abs=1)


def test_presets_and_follow_ups(page):
    page.check("#follow")
    chip = page.locator("#presets button").first
    before = newest_id(page)
    chip.click()
    until(lambda: newest_id(page) > before, "the preset is asked")
    first = page.locator(f".entry[data-id='{newest_id(page)}']")
    state(first, "done")
    assert text(first.locator(".question")) == text(chip) == "What is visible now?"
    assert "in a dialogue" in text(first.locator(".meta"))
    second = ask(page, "Where is it?")
    state(second, "done")
    assert "in a dialogue" in text(second.locator(".meta"))
    rows = page.request.get(page.url + "history.json").json()
    assert rows[-1]["dialogue"] == rows[-2]["dialogue"] != ""
    page.click("#new-dialogue")
    third = ask(page, "What is visible now?")
    state(third, "done")
    assert page.request.get(page.url + "history.json").json()[-1]["dialogue"] not in ("", rows[-1]["dialogue"])


def test_keyboard_alone(page):
    page.keyboard.press("/")
    page.keyboard.type("How many objects are there?")
    before = page.locator(".entry").count()
    page.keyboard.press("Enter")
    until(lambda: page.locator(".entry").count() > before or before >= 200, "it was asked")
    state(page.locator(".entry").first, "done")
    # From the skip link on, everything is reached in a sensible order.
    page.reload()
    page.wait_for_selector("#live[data-number]")
    seen = []
    for _ in range(12):
        page.keyboard.press("Tab")
        seen.append(page.evaluate("document.activeElement.id || document.activeElement.className"))
    assert seen[0] == "skip" and seen.index("theme") < seen.index("question") < seen.index("choices")
    page.locator("h1").click()
    page.keyboard.press("?")
    assert page.locator("#help").is_visible()
    page.keyboard.press("Escape")


def test_script_is_text(page):
    card = ask(page, f"{EVIL}<img src=x onerror=alert(2)>", regex=r"<script>alert\(1\)</script>", tokens=60)
    state(card, "done")
    assert text(card.locator(".answer")) == EVIL
    assert text(page.locator("#overlay-answer")) == EVIL
    other = ask(page, "Which?", choices=f"{EVIL}, <b>bold</b>")
    state(other, "done")
    assert EVIL in [text(name) for name in other.locator(".bar .name").all()]
    page.reload()
    page.wait_for_selector(".entry")
    again = page.locator(f".entry[data-id='{card.get_attribute('data-id')}']")
    assert text(again.locator(".answer")) == EVIL
    assert page.locator("main script, main b, .question img").count() == 0


def test_reload_keeps_history_and_others_are_seen(page, rig: Rig, open_page):
    client = ROOT / "test" / "ros" / "client.py"
    asked = subprocess.run(
        [sys.executable, str(client), "What appeared first?", "20"],
        env=rig.env,
        capture_output=True,
        text=True,
        check=True,
    )
    answer = json.loads(asked.stdout)["answer"]
    card = until(
        lambda: next(
            (c for c in page.locator(".entry").all() if text(c.locator(".question")) == "What appeared first?"), None
        ),
        "another client's question is shown",
    )
    assert text(card.locator(".answer")) == answer
    assert "asked by another client" in text(card.locator(".meta"))
    # One of this page's is not shown a second time, as ~/answer tells of it too.
    mine = ask(page, "Once only?")
    state(mine, "done")
    time.sleep(2.5)
    assert page.locator(".entry .question", has_text="Once only?").count() == 1

    before = [text(c) for c in page.locator(".entry .answer").all()]
    assert len(before) >= 2
    page.reload()
    page.wait_for_selector(".entry")
    until(lambda: [text(c) for c in page.locator(".entry .answer").all()] == before, "the history is there again")
    until(lambda: page.locator(".thumb img").first.evaluate("(image) => image.naturalWidth") == 112, "and its pictures")

    # A second browser sees the same, and what the first one asks.
    second = open_page()
    second.wait_for_selector(".entry")
    state(ask(page, "Seen by both?"), "done")
    until(lambda: second.locator(".entry .question", has_text="Seen by both?").count() == 1, "the other one sees it")


def test_watch_fires(page):
    page.keyboard.press("w")
    page.fill("#watch-question", "Is a red circle visible?")
    page.click("#watch-form button[type=submit]")
    watch = page.locator(".watch[data-name=is_a_red_circle_visible]")
    watch.wait_for()
    page.locator(".watch.fires").wait_for()
    assert "is_a_red_circle_visible" in text(page.locator("#firing"))
    until(lambda: "fires" in text(page.locator("#events")), "the event is listed")
    until(
        lambda: len((watch.locator(".line").last.get_attribute("points") or "").split()) >= 4, "its scores are a line"
    )
    until(lambda: watch.locator(".chart .fired").count() >= 1, "its event is marked")
    assert watch.locator(".chart .threshold").count() == 1
    assert "threshold 0.5" in watch.locator(".chart").get_attribute("aria-label")
    until(lambda: watch.locator(".pill", has_text="quiet").count(), "the circle is gone")
    assert page.locator("#firing li").count() == 0

    # What the node refuses is said.
    page.fill("#watch-question", "Is a red circle visible?")
    page.fill("#watch-name", "is_a_red_circle_visible")
    page.click("#watch-form button[type=submit]")
    until(lambda: "is_a_red_circle_visible" in text(page.locator("#watch-error")), "the reason is shown")
    watch.locator("button", has_text="Remove").click()
    until(lambda: page.locator(".watch").count() == 0, "it is removed")


def test_numbers(page):
    until(
        lambda: "2.0/s" in text(page.locator("#frames-list")) or "4.0/s" in text(page.locator("#frames-list")), "rates"
    )
    assert re.search(r"Tokens\d", text(page.locator("#memory-list")))
    assert "MiB" in text(page.locator("#memory-list")) and "Device memory" in text(page.locator("#memory-list"))
    until(lambda: "% of 2:00 min" in text(page.locator("#memory-words")), "the budget is known")
    assert "least important" in text(page.locator("#memory-words"))


def test_export(page):
    state(ask(page, 'What, with "quotes", commas?'), "done")
    rows = page.request.get(page.url + "history.json").json()
    assert rows[-1]["question"] == 'What, with "quotes", commas?' and rows[-1]["last_stamp"] > 1.6e9
    table = list(csv.DictReader(io.StringIO(page.request.get(page.url + "history.csv").text().lstrip("\ufeff"))))
    assert [row["question"] for row in table] == [row["question"] for row in rows]
    assert int(table[-1]["frames_seen"]) == rows[-1]["frames_seen"]
    with page.expect_download() as download:
        page.click("text=CSV")
    assert download.value.suggested_filename == "history.csv"


@pytest.mark.parametrize(("width", "scheme"), [(390, "dark"), (390, "light"), (1280, "dark")])
def test_sizes_and_themes(open_page, width, scheme):
    page = open_page(width=width, height=844, color_scheme=scheme)
    page.wait_for_selector("#live[data-number]")
    page.wait_for_selector(".entry")
    for summary in page.locator("summary").all():
        summary.click()
    assert page.evaluate("document.documentElement.scrollWidth") == width
    assert page.evaluate("document.documentElement.dataset.theme") == scheme
    ground = page.locator("body").evaluate("(body) => getComputedStyle(body).backgroundColor")
    page.click("#theme")
    assert page.locator("body").evaluate("(body) => getComputedStyle(body).backgroundColor") != ground
    # Everything that can be used has a name.
    nameless = page.evaluate(
        """() => [...document.querySelectorAll("button, input, select, textarea, a")].filter((e) => e.checkVisibility()
        && !e.getAttribute("aria-label") && !e.textContent.trim() && !(e.labels && e.labels.length))
        .map((e) => e.outerHTML)"""
    )
    assert nameless == []
    contrast = Path(__file__).with_name("contrast.js").read_text()
    assert page.evaluate(contrast) == []


class TestRecordings:
    """Videos and bags that are dropped on the page."""

    def drop(self, page: Any, name: str, data: bytes) -> None:
        """Drop a file on the page, as the mouse would."""
        transfer = page.evaluate_handle(
            """([name, data]) => { const t = new DataTransfer();
            t.items.add(new File([Uint8Array.from(data)], name)); return t; }""",
            [name, list(data)],
        )
        page.dispatch_event("body", "drop", {"dataTransfer": transfer})

    def result(self, page: Any, *states: str) -> str:
        card = page.locator(", ".join(f".replay[data-state={s}]" for s in states))
        card.wait_for()
        return text(card.locator("p"))

    @pytest.mark.parametrize(
        ("name", "data", "words"),
        [
            ("street.mp4", b"no video at all" * 100, "File 'street.mp4' cannot be opened as a video"),
            ("robot.mcap", DEMO.read_bytes()[:20000], "is damaged or incomplete"),
            ("robot.zip", b"PK no zip", "The zip file cannot be read"),
        ],
    )
    def test_broken(self, page, name, data, words):
        page.set_input_files("#file", {"name": name, "mimeType": "application/octet-stream", "buffer": data})
        page.locator("#confirm button[value=yes]").click()
        said = until(
            lambda: next(
                (t for t in (*map(text, page.locator(".replay[data-state=failed] p").all()),) if words in t), ""
            ),
            "the reason is shown",
        )
        assert "/upload" not in said and "stream_vl_web_" not in said

    def test_a_name_that_is_none(self, page):
        page.set_input_files("#file", {"name": "../../evil.sh", "mimeType": "text/plain", "buffer": b"x"})
        until(lambda: "neither a video nor a bag" in text(page.locator("#replay-error")), "it is refused")

    def test_a_bag_beside_a_camera_is_asked_about_and_stopped(self, page):
        self.drop(page, "../../walk.mcap", DEMO.read_bytes())
        page.locator("#confirm").wait_for()
        assert "/replay publishes on /camera/image_raw already" in text(page.locator("#confirm-text"))
        page.locator("#confirm button[value=no]").click()
        assert page.locator(".replay[data-state=playing]").count() == 0
        self.drop(page, "walk.mcap", DEMO.read_bytes())
        page.locator("#confirm button[value=yes]").click()
        playing = page.locator(".replay[data-state=playing]")
        playing.wait_for()
        until(lambda: re.search(r"of 23\.8 s, [1-9]\d* images", text(playing.locator("p"))), "it is being replayed")
        playing.locator("button", has_text="Stop").click()
        assert re.match(r"Stopped after \d+ images", self.result(page, "stopped"))


def test_a_silent_camera_and_a_dropped_video(page, rig: Rig, footage, tmp_path: Path):
    """Without its camera the page says what the node says; a video that is dropped then is seen and asked about."""
    rig.replays.pop().end()
    until(lambda: "no image on /camera/image_raw" in text(page.locator("#banner")), "the watchdog's sentence")
    until(lambda: "The last picture is" in text(page.locator("#no-picture")), "the picture is known to be old")
    page.set_input_files("#file", str(made_video(tmp_path / "two seconds.mp4")))
    card = page.locator(".replay[data-state=done]")
    card.wait_for()
    assert "two seconds.mp4" in text(card) and re.search(r"\d\d images were replayed", text(card))
    assert page.locator("#confirm").is_hidden()
    answered = ask(page, "What is visible now?")
    state(answered, "done")
    rows = page.request.get(page.url + "history.json").json()
    # Its frames are stamped with the present.
    assert abs(rows[-1]["last_stamp"] - time.time()) < 60
    rig.start_replay(rig.topic)
    until(lambda: page.locator("#banner").is_hidden(), "the camera is back")


def made_video(path: Path) -> Path:
    """Two seconds of moving grey."""
    import av
    import numpy as np

    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width = stream.height = 64
        for i in range(20):
            frame = av.VideoFrame.from_ndarray(np.full((64, 64, 3), 10 * i, dtype=np.uint8))
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def test_node_killed_and_restarted(page, rig: Rig):
    card = ask(page, "Until the end?", regex="(a|b){30000}", tokens=40000)
    state(card, "writing")
    rig.kill_node()
    killed = time.monotonic()
    page.wait_for_selector("body[data-node=gone]")
    assert "says nothing any more" in text(page.locator("#banner"))
    assert state(card, "failed", "done", "stopped") == "failed"
    assert "The node went away before it had answered" in text(card.locator(".error"))
    page.locator("#more").evaluate("(more) => { more.open = true; }")
    page.fill("#regex", "")
    page.fill("#question", "Are you there?")
    page.click("#send")
    until(lambda: "says nothing any more" in text(page.locator("#ask-error")), "asking is refused with the reason")
    rig.start_node()
    page.wait_for_selector("body[data-node=active]")
    assert page.locator(".entry[data-state=note]").count() >= 1
    wait_for_video(page)
    again = ask(page, "What is visible now?")
    assert state(again, "done", "failed") == "done", text(again)
    until(lambda: page.locator("#banner").is_hidden(), "all is well")
    # One that was killed is taken for alive for 20 s, and would spoil the next test.
    time.sleep(max(0.0, killed + 22 - time.monotonic()))


def test_the_pages_process_ends_and_history_stays(rig: Rig, open_page):
    page = open_page()
    page.wait_for_selector("body[data-node=active]")
    state(ask(page, "Kept?"), "done")
    time.sleep(2.5)  # until it is known that nobody else asked the same
    before = [text(c) for c in page.locator(".entry .question").all()]
    code, seconds = rig.web.end()
    assert (code, seconds < 2.0) == (0, True), (seconds, rig.web.log)
    assert "Traceback" not in rig.web.log
    page.wait_for_selector("body[data-node=disconnected]")
    port = rig.address.rsplit(":", 1)[1]
    rig.web = rig.start_web(history_folder=rig.folder / "history", port=port)
    assert rig.web.address() == rig.address
    # The page comes back by itself.
    page.wait_for_selector("body[data-node=active]")
    page.reload()
    page.wait_for_selector(".entry")
    assert [text(c) for c in page.locator(".entry .question").all()] == before


def test_numbers_that_begin_again_are_of_other_questions(rig: Rig, open_page):
    web = rig.start_web()
    address = web.address()
    page = open_page(address)
    page.wait_for_selector("body[data-node=active]")
    card = ask(page, "Before?", choices="yes, no")
    assert card.get_attribute("data-id") == "1" and state(card, "done")
    # It does not come back before somebody else has asked.
    page.evaluate("""() => {
      window.Kept = WebSocket;
      WebSocket = class extends EventTarget {
        constructor() { super(); setTimeout(() => this.dispatchEvent(new Event("close")), 50); }
      };
    }""")
    web.end()
    page.wait_for_selector("body[data-node=disconnected]")
    assert rig.start_web(port=address.rsplit(":", 1)[1]).address() == address
    other = open_page(address)
    other.wait_for_selector("body[data-node=active]")
    asked = ask(other, "After?", choices="left, right")
    assert asked.get_attribute("data-id") == "1" and state(asked, "done")
    page.evaluate("() => { WebSocket = window.Kept; }")
    page.wait_for_selector("body[data-node=active]")
    assert page.locator(".entry").count() == 1 and text(card.locator(".question")) == "After?"
    assert [text(name) for name in card.locator(".bar .name").all()] == ["left", "right"]


def test_several_cameras(rig: Rig, open_page: Callable[..., Any]):
    rig.kill_node(signal.SIGINT)
    rig.start_node(streams="[front, rear]")
    rear = rig.start_replay("/rear/image_raw", "--start", "13")
    page = open_page()
    for name in ("front", "rear"):  # whichever is found first is shown
        page.wait_for_selector(f"#camera option[value={name}]", state="attached")
    until(lambda: page.locator("#camera option").count() == 2, "the one camera is gone")
    page.select_option("#camera", "front")
    until(
        lambda: "nobody publishes" in text(page.locator("#banner")) or page.locator("#live").is_hidden(), "no picture"
    )
    page.wait_for_selector("body[data-node=active]")
    page.select_option("#camera", "rear")
    page.wait_for_selector("#live[alt='Live picture of camera rear']")
    assert "/rear/image_raw" in text(page.locator("#caption"))
    wait_for_video(page)
    card = ask(page, "What is visible now?")
    assert state(card, "done", "failed") == "done"
    assert text(card.locator(".meta")).startswith("rear")
    page.select_option("#ask-stream", "all")
    page.fill("#question", "All of you?")
    page.click("#send")
    until(lambda: page.locator(".entry .question", has_text="All of you?").count() == 2, "an entry for each")
    rear.end()
    rig.replays.remove(rear)
    rig.kill_node(signal.SIGINT)
    rig.start_node()
