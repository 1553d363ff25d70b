"""The static browser in headless Chromium: layers, maps, keys, links, search, two networks, phones, files, harm."""

import io
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from pages import AXE
from PIL import Image
from playwright.sync_api import expect
from torch import nn

from zfnet_lib import MINI, ConvNet, ZfnetError, load_network, open_dataset, strongest
from zfnet_lib.browser import linked_browser
from zfnet_lib.browser.atlas import COVER, SHOWN, TILE, read_manifest, write_atlas
from zfnet_lib.browser.pages import NETWORKS, PAGE, write_browser
from zfnet_lib.files import PROJECT
from zfnet_lib.strongest import Squares, blocks

NAMES = [f"thing {n}" for n in range(MINI.classes)]
REPAIR = "zfnet atlas one two --out here"
expect.set_options(timeout=30_000)  # a machine with two cores may be busy


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A browser of two narrow networks: one over photographs, with first answers, one over labelled drawings."""
    folder = tmp_path_factory.mktemp("browser")
    photos, shapes = open_dataset("photos", density=0.3), open_dataset("shapes", n=24)
    one, two = (ConvNet(MINI, seed=seed).eval() for seed in (1, 2))
    write_atlas(one, photos, folder / "one", name="one", maps=6, classes=NAMES)
    write_atlas(two, shapes, folder / "two", name="two", maps=5)
    write_browser(folder, [folder / "one", folder / "two"], REPAIR, {"three": "Three is not trained yet."})
    return folder


@pytest.fixture(scope="module")
def manifest(site: Path) -> dict:
    return read_manifest(site / "one")


@pytest.fixture(scope="module")
def served(site: Path, address) -> str:
    return address(site / PAGE)


@pytest.fixture
def page(chromium):
    context = chromium.new_context(viewport={"width": 1280, "height": 900})
    yield context.new_page()
    context.close()


def opened(page, address: str, fragment: str = "") -> None:
    """Open a place and wait until its nine are painted."""
    page.goto(address + fragment)
    painted(page)


def painted(page) -> None:
    page.wait_for_function(
        "[...document.querySelectorAll('.body:not(.empty) .nine')].every(nine => nine.querySelector('.projections "
        ".tile') && nine.querySelector('.patches .tile')) && document.querySelector('.nine')"
    )


def title(page, pane: int = 0) -> str:
    return page.locator(".map h2").nth(pane).inner_text()


def fragment(page) -> str:
    return page.evaluate("location.hash")


def arrives(page, fragment: str) -> None:
    """Wait until the address names a place, or one in it."""
    page.wait_for_function("place => `${location.hash}/`.startsWith(`${place}/`)", arg=fragment.removesuffix("/"))


def ask(page, words: str) -> None:
    page.fill("#query", words)
    page.keyboard.press("Enter")


def layer_of(manifest: dict, name: str) -> dict:
    return next(layer for layer in manifest["layers"] if layer["layer"] == name)


def test_it_opens_with_the_strongest_map_of_the_top_layer_and_loads_nothing_else(page, served, manifest, site):
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    opened(page, served)
    layer = layer_of(manifest, "conv5")
    best = max(layer["entries"], key=lambda entry: entry["scores"][0])
    assert title(page) == f"conv5, map {best['map']}"
    assert fragment(page) == f"#one/conv5/{best['map']}"
    page.wait_for_load_state("networkidle")
    root = served.removesuffix(PAGE)
    assert [url for url in asked if not url.startswith((root, "data:"))] == []
    data = {url.removeprefix(root).partition("?")[0] for url in asked if "/one/" in url or "/two/" in url}
    pictures = {name for name in data if "/pictures/" in name}
    assert data - pictures == {"one/network.js", "one/maps-conv5.js", "one/conv5.webp", "one/conv5-0.webp"}
    assert len(pictures) == 1
    loaded = {site / url.removeprefix(root).partition("?")[0] for url in asked if url.startswith(root)}
    assert sum(path.stat().st_size for path in loaded) < 2_000_000


def test_a_map_shows_its_nine_with_scores_and_alternative_texts(page, served, manifest, site) -> None:
    entry = layer_of(manifest, "conv3")["entries"][2]
    opened(page, served, f"#one/conv3/{entry['map']}/3")
    radios = page.locator(".projections [role=radio]")
    assert radios.count() == page.locator(".patches [role=img]").count() == SHOWN
    names = [manifest["classes"][manifest["seen"][str(image)]["labels"][0]] for image in entry["images"]]
    for n, (score, name) in enumerate(zip(entry["scores"], names, strict=True), start=1):
        label = radios.nth(n - 1).get_attribute("aria-label")
        assert label.startswith(f"Projection {n}: activation ") and label.endswith(f", {name}")
        shown = float(label.split("activation ")[1].split(", ")[0].replace(",", ""))
        assert shown == pytest.approx(score, rel=0.005)
    assert radios.nth(2).get_attribute("aria-checked") == "true"
    facts = page.locator(".unit dl").inner_text()
    row, column = entry["places"][2]
    assert f"row {row}, column {column}" in facts
    answer, sure = manifest["answers"][str(entry["images"][2])]
    assert f"{answer} ({int(100 * sure + 0.5)} %), not a label" in facts
    opened(page, served, "#two/conv4")  # over pictures that have labels
    expect(page.locator(".pane")).to_have_attribute("aria-label", "two")
    assert read_manifest(site / "two")["answers"] == {}
    facts = page.locator(".unit dl").inner_text()
    assert "Label" in facts and "First answer" not in facts and "Photograph" not in facts


def test_tiles_are_cut_out_of_the_sheets_exactly(page, served, manifest, site):
    layer = layer_of(manifest, "conv2")
    opened(page, served, f"#one/conv2/{layer['entries'][4]['map']}")
    sheet, cover = (Image.open(site / "one" / name).convert("RGB") for name in ("conv2-0.webp", "conv2.webp"))
    page.wait_for_selector(".cover a.tile")

    def inner(picture: Image.Image) -> np.ndarray:  # the edge is rounded
        return np.asarray(picture).astype(float)[4:-4, 4:-4]

    for picture, size, at, line, selector in (
        (sheet, TILE, 3, 4, ".projections .small >> nth=3"),
        (sheet, TILE, SHOWN + 5, 4, ".patches .small >> nth=5"),
        (sheet, TILE, 0, 4, ".large .big >> nth=0"),
        (sheet, TILE, SHOWN, 4, ".large .big >> nth=1"),
        (cover, COVER, 3, 0, ".cover a >> nth=3"),
    ):
        shown = Image.open(io.BytesIO(page.locator(selector).screenshot())).convert("RGB")
        differences = []
        for column, row in ((at, line), (at, line - 1), (at + 1, line)):  # its own tile, and two neighbours
            box = (column * size + 1, row * size + 1, (column + 1) * size - 1, (row + 1) * size - 1)
            tile = picture.crop(box).resize(shown.size, Image.Resampling.BILINEAR)
            differences.append(abs(inner(shown) - inner(tile)).mean())
        # Fractions of a pixel cost some, and more where a tile is made smaller.
        assert min(differences[1:]) > (2 if picture is cover else 4) * differences[0]


def test_the_receptive_field_is_marked_where_it_lies_in_the_picture(page, served, manifest) -> None:
    entry = layer_of(manifest, "conv2")["entries"][0]
    opened(page, served, f"#one/conv2/{entry['map']}")
    seen, (top, left, bottom, right) = manifest["seen"][str(entry["images"][0])], entry["boxes"][0]
    x, y, width, height = seen["window"]
    clip = lambda value: min(max(value, 0), manifest["side"]) / manifest["side"]  # noqa: E731
    whole, field = (page.locator(name).bounding_box() for name in (".whole", ".field"))
    for (at, extent), (begin, end) in {
        ("x", "width"): (x + width * clip(left), x + width * clip(right)),
        ("y", "height"): (y + height * clip(top), y + height * clip(bottom)),
    }.items():
        assert (field[at] - whole[at]) / whole[extent] == pytest.approx(begin, abs=0.01)
        assert (field[at] + field[extent] - whole[at]) / whole[extent] == pytest.approx(end, abs=0.01)
    source = manifest["sources"][seen["source"]]
    page.wait_for_function("document.querySelector('.whole img').naturalWidth > 0")
    assert source["file"] in page.locator(".whole img").get_attribute("src")
    assert whole["width"] / whole["height"] == pytest.approx(source["size"][0] / source["size"][1], rel=0.02)


def test_layers_maps_and_units_follow_clicks(page, served, manifest) -> None:
    opened(page, served)
    links = page.locator("nav.layers a")
    assert [link.get_attribute("data-layer") for link in links.all()] == [x["layer"] for x in manifest["layers"]]
    assert "filters 3 × 3" in links.nth(3).get_attribute("aria-label")
    links.nth(0).click()
    expect(page.locator(".maps h2")).to_have_text("Filters of conv1")
    painted(page)
    assert links.nth(0).get_attribute("aria-current") == "true"
    assert page.locator(".pane .notice").is_hidden(), "a layer without a map is no wrong address"
    assert page.locator(".cover a").count() == MINI["conv1"].maps, "layer 1 is whole"
    assert page.locator(".cover a.tile.exact").count() == MINI["conv1"].maps
    assert page.locator(".filter").is_visible()
    number = layer_of(manifest, "conv1")["entries"][3]["map"]
    page.locator(".cover a").nth(3).click()
    expect(page.locator(".map h2")).to_contain_text(f"map {number}")
    painted(page)
    page.locator(".patches .small").nth(4).click()
    expect(page.locator(".unit h2")).to_have_text("Unit 5 of 9")
    assert fragment(page) == f"#one/conv1/{number}/5"
    page.go_back()
    page.wait_for_function("document.querySelector('.map h2').textContent.startsWith('conv5')")


def test_keys_move_through_maps_layers_and_units_unless_they_are_switched_off(page, served, manifest) -> None:
    maps = [entry["map"] for entry in layer_of(manifest, "conv4")["entries"]]
    opened(page, served, f"#one/conv4/{maps[1]}")
    press = page.keyboard.press
    press("ArrowRight")
    arrives(page, f"#one/conv4/{maps[2]}")
    press("ArrowLeft")
    press("7")
    arrives(page, f"#one/conv4/{maps[1]}/7")
    press("d")
    arrives(page, "#one/conv3/")
    press("u")
    arrives(page, "#one/conv4/")
    page.locator("#query").focus()
    page.keyboard.type("d9")
    assert page.locator("#query").input_value() == "d9" and fragment(page).startswith("#one/conv4/")
    page.locator(".cover a[tabindex='0']").focus()
    press("Home")
    press("ArrowRight")
    arrives(page, f"#one/conv4/{maps[1]}")
    assert page.evaluate("document.activeElement.dataset.map") == str(maps[1])
    page.locator(".projections [tabindex='0']").focus()
    press("ArrowDown")
    arrives(page, f"#one/conv4/{maps[1]}/4")
    assert page.evaluate("document.activeElement.dataset.unit") == "4"

    press("?")
    assert page.locator("#about").is_visible()
    page.locator("#keys").uncheck()
    press("Escape")
    assert not page.locator("#about").is_visible()
    press("d")
    press("s")
    assert fragment(page).startswith(f"#one/conv4/{maps[1]}")
    assert page.locator("script[src^='two/']").count() == 0, "nothing is on its way"


def test_a_link_opens_what_it_names_or_says_what_is_not_there(page, served, manifest) -> None:
    layer = layer_of(manifest, "conv5")
    maps = [entry["map"] for entry in layer["entries"]]
    opened(page, served, f"#one/conv5/{maps[-1]}/2")
    assert title(page) == f"conv5, map {maps[-1]}"
    assert page.locator(".unit h2").inner_text() == "Unit 2 of 9"
    absent = next(n for n in range(layer["maps"]) if n not in maps)
    for asked, said in (
        (f"one/conv5/{absent}/4", f"Map {absent} of conv5 is not in this atlas; this is map "),
        ("one/conv5/99999", f"conv5 has maps 0 to {layer['maps'] - 1}, and no map 99999; this is map {maps[-1]}."),
        ("one/conv5/x", "and no map of that name; this is map "),
        ("one/conv9/1", "one has no maps of conv9; its layers with maps are conv1, conv2, conv3, conv4, conv5."),
        ("four/conv1/1", "There is no atlas of four here; here are one, two. Write one with: zfnet atlas four"),
        ("three", "Three is not trained yet."),
        ("%E0%A4%A/%", "There is no atlas of %E0%A4%A here"),
    ):
        page.evaluate("link => { location.hash = link; }", asked)
        expect(page.locator(".pane .notice")).to_contain_text(said)
        painted(page)
        assert page.locator("#trouble").is_hidden()
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    opened(page, served, f"#one/conv5/{maps[0]}/2&two/conv3")
    page.locator(".link").first.click()
    page.wait_for_function("document.querySelector('.link').textContent === 'Copied'")
    assert page.evaluate("navigator.clipboard.readText()") == f"{served}#one/conv5/{maps[0]}/2"


def test_search_finds_the_maps_whose_units_lie_in_such_pictures(page, served, manifest) -> None:
    opened(page, served)
    ask(page, "MOTOR")
    wanted = manifest["classes"].index("motorcycle")
    named = {int(image) for image, seen in manifest["seen"].items() if wanted in seen["labels"]}
    counts = {
        (layer["layer"], entry["map"]): sum(image in named for image in entry["images"])
        for layer in manifest["layers"]
        for entry in layer["entries"]
        if named.intersection(entry["images"])
    }
    page.wait_for_selector(".found h2:focus")
    assert page.locator(".found h2").inner_text() == f"“MOTOR”: {len(counts)} maps"
    assert "Photograph: “motorcycle”." in page.locator(".found p").inner_text()
    found = [link.get_attribute("aria-label") for link in page.locator(".hit").all()]
    assert len(found) == len(counts) > 0
    top = [label for label in found if label.startswith("conv5")]
    expected = sorted((count for (layer, _), count in counts.items() if layer == "conv5"), reverse=True)
    assert [int(label.split(": ")[1].split()[0]) for label in top] == expected
    (layer, number) = max((key for key in counts if key[0] == "conv5"), key=lambda key: (counts[key], -key[1]))
    page.locator(".hit").first.click()
    arrives(page, f"#one/{layer}/{number}")
    page.keyboard.press("Escape")
    expect(page.locator(".found")).to_be_hidden()

    answer = next(iter(manifest["answers"].values()))[0]
    ask(page, answer)
    page.wait_for_selector(".found h2:focus")
    said = page.locator(".found p").inner_text()
    assert f"first answer, not a label: “{answer}”" in said and "Photograph" not in said
    kinds = page.locator("#labels option").evaluate_all("all => all.map(each => each.label)")
    assert f"{answer} (first answer of one, not a label)" in kinds and "cat (photograph)" in kinds
    ask(page, "no such thing")
    expect(page.locator(".found h2")).to_have_text("No picture here goes by “no such thing”")
    page.wait_for_selector(".found h2:focus")
    page.keyboard.press("Escape")
    expect(page.locator("#query")).to_be_focused()
    ask(page, "cat")
    expect(page.locator(".found")).to_be_visible()
    page.locator(".network").select_option("two")
    expect(page.locator(".found")).to_be_hidden()


def test_two_networks_stand_side_by_side_and_change_layers_together(page, served) -> None:
    opened(page, served, "#one/conv3")
    page.route("**/two/network.js*", lambda route: route.abort(), times=1)
    page.locator(".network").select_option("two")
    expect(page.locator("#trouble")).to_contain_text("two/network.js is missing.")
    expect(page.locator(".network")).to_have_value("one")
    page.keyboard.press("s")  # asks for it anew
    page.wait_for_selector(".pane >> nth=1")
    painted(page)
    assert page.locator(".pane").evaluate_all("all => all.map(pane => pane.ariaLabel)") == ["one", "two"]
    assert page.locator("#aside").get_attribute("aria-pressed") == "true"
    first, second = (page.locator(".pane").nth(n) for n in (0, 1))
    assert title(page, 1).startswith("conv3")
    second.locator("nav a").nth(1).click()
    for pane in (first, second):
        expect(pane.locator(".map h2")).to_contain_text("conv2")
    page.locator("#together input").uncheck()
    first.locator("nav a").nth(4).click()
    page.wait_for_function("document.querySelector('.map h2').textContent.startsWith('conv5')")
    assert title(page, 1).startswith("conv2")
    assert [part.split("/")[:2] for part in fragment(page)[1:].split("&")] == [["one", "conv5"], ["two", "conv2"]]
    before = title(page, 0), title(page, 1)
    second.locator(".link").focus()
    page.keyboard.press("ArrowLeft" if second.locator(".after").is_disabled() else "ArrowRight")
    expect(second.locator(".map h2")).not_to_have_text(before[1])
    assert title(page, 0) == before[0]
    click = "(pane, n) => pane.querySelectorAll('nav a')[[3, 0][n]].click()"  # one right after the other
    page.evaluate(f"document.querySelectorAll('.pane').forEach({click})")
    for pane, layer in ((first, "conv4"), (second, "conv1")):
        expect(pane.locator(".map h2")).to_contain_text(layer)
    second.locator(".network").select_option("three")
    page.wait_for_function("document.querySelectorAll('.notice')[2].textContent === 'Three is not trained yet.'")
    page.locator("#aside").click()
    page.wait_for_function("document.querySelectorAll('.pane').length === 1")


@pytest.mark.parametrize(
    ("scheme", "place", "more", "rules"),
    [
        ("light", "#one/conv1/0&two/conv9", "search", {}),
        ("light", "#one/conv5", "help", {}),
        ("dark", "#one/conv5&two/conv9", "search", {"runOnly": ["color-contrast"]}),
    ],
)
@pytest.mark.skipif(not AXE.exists(), reason="no axe-core here: make vendor brings it, by npm")
def test_axe_finds_nothing(chromium, served, scheme: str, place: str, more: str, rules: dict) -> None:
    page = chromium.new_page(viewport={"width": 1100, "height": 900}, color_scheme=scheme)
    opened(page, served, place)
    if more == "search":
        ask(page, "a")
        page.wait_for_selector(".hits .tile")
    else:
        page.locator("#help").click()
    page.add_script_tag(path=str(AXE))
    found = page.evaluate("rules => axe.run(rules)", rules)
    assert [(each["id"], each["impact"], each["nodes"][0]["html"]) for each in found["violations"]] == []
    assert "color-contrast" in [each["id"] for each in found["passes"]]
    page.close()


@pytest.mark.parametrize("late", ["network.js", "conv1*.webp"])
def test_what_is_asked_for_last_is_shown_whenever_the_rest_comes(page, served, manifest, late: str) -> None:
    held, place = [], f"conv1/{layer_of(manifest, 'conv1')['entries'][3]['map']}"
    page.route(f"**/two/{late}*", lambda route: held.append(route))
    opened(page, served, f"#one/{place}")
    with page.expect_request(f"**/two/{late}*"):
        page.evaluate(f"location.hash = '#two/{place}'")
    page.evaluate(f"location.hash = '#one/{place}'")
    expect(page.locator(".pane")).to_have_attribute("aria-label", "one")
    for route in held:
        route.continue_()
    come = "['network', 'maps-conv1'].map(each => zfnet.table(two, each)), zfnet.picture(two, 'conv1-0.webp')"
    page.evaluate(f"async () => {{ const two = zfnet.networks[1]; await Promise.all([{come}].flat()); }}")
    page.evaluate("new Promise(requestAnimationFrame)")
    shown = page.locator(".pane[aria-label=one] :is(.filter, .big)")
    assert shown.evaluate_all("all => all.map(each => each.style.backgroundImage.includes('/one/'))") == [True] * 3


def test_nothing_moves_sideways_on_a_phone(chromium, site, address, tmp_path) -> None:
    folder, long = shutil.copytree(site, tmp_path / "long"), "fifty_letters_without_a_space_name_the_same_network"
    for name in (NETWORKS, "two/network.js"):
        swap(folder / name, '"name":"two"', f'"name":"{long}"')
    page = chromium.new_page(viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    opened(page, address(folder / PAGE), f"#one/conv1/0&{long}/conv2")
    for words, found in ((long, ".found h2:focus"), ("a", ".hits .tile")):
        ask(page, words)
        page.wait_for_selector(found)
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
    small = page.locator("button:visible, select:visible, nav.layers a").evaluate_all(
        "all => all.filter(each => Math.min(each.offsetWidth, each.offsetHeight) < 24).map(each => each.outerHTML)"
    )
    assert small == [], "fingers need 24 pixels"
    number = page.locator(".cover a").nth(2).get_attribute("data-map")
    page.locator(".cover a").nth(2).tap()
    expect(page.locator(".map h2").first).to_have_text(f"conv1, map {number}")
    assert fragment(page).startswith(f"#one/conv1/{number}&{long}/conv1/")
    page.close()


def test_layers_of_any_module_stand_in_a_row_of_boxes_whatever_their_names(page, address, tmp_path) -> None:
    names, module = ("page", "network", "networks", "data", "unit", "tiles", "50% #1"), nn.Sequential()
    for n, name in enumerate(names):  # those of the page's own files, and signs that addresses use
        module.add_module(name, nn.Conv2d(4 if n else 3, 4, 3, 2 - n % 2, padding=1))
    folder = tmp_path / "atlas"
    write_atlas(load_network(module, 48, layers=names), open_dataset("shapes", n=9), folder, maps=2)
    page.set_viewport_size({"width": 390, "height": 844})
    opened(page, address(write_browser(folder, [folder], REPAIR)), "#sequential/network")
    links = page.locator("nav.layers a")
    assert links.all_inner_texts()[1:3] == ["network\n4 × 24 × 24", "networks\n4 × 12 × 12"]
    assert links.nth(1).get_attribute("title") == "4 maps of 24 × 24; a unit sees 7 × 7 pixels"
    assert links.nth(6).get_attribute("title").endswith("; a unit sees the whole input")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    for n in (6, 0):  # the layer that is shown is in view, though not all of them have room
        links.nth(n).evaluate("link => link.click()")
        expect(page.locator(".maps h2")).to_have_text(f"Maps of {names[n]}")
        box = links.nth(n).bounding_box()
        assert 0 <= box["x"] <= box["x"] + box["width"] <= 390
    painted(page)


def test_it_begins_with_a_map_of_nine_units_where_others_have_fewer(page, address, tmp_path) -> None:
    net, shapes = ConvNet(MINI, seed=3).eval(), open_dataset("shapes", n=24)
    folder = write_atlas(net, shapes, tmp_path / "atlas", name="net", maps=2, others=1)
    layer = layer_of(read_manifest(folder), "conv3")
    nine = [entry for entry in layer["entries"] if len(entry["scores"]) == 9]
    whole = max(nine, key=lambda entry: entry["scores"])
    other = next(entry["map"] for entry in layer["entries"] if len(entry["scores"]) == 1)
    opened(page, address(write_browser(folder, [folder], REPAIR)), "#net/conv3")
    assert title(page) == f"conv3, map {whole['map']}"
    expect(page.locator(".maps p").first).to_contain_text("9 units of 2 of them, fewer of the others.")
    page.goto(page.url.rpartition("#")[0] + f"#net/conv3/{other}")
    expect(page.locator(".unit h2")).to_have_text("Unit 1 of 1")
    painted(page)


def test_it_works_from_a_file(page, site) -> None:
    broken: list[str] = []
    page.on("pageerror", lambda error: broken.append(str(error)))
    page.on("console", lambda message: message.type == "error" and broken.append(message.text))
    opened(page, (site / PAGE).as_uri(), "#two/conv2")
    page.keyboard.press("d")
    arrives(page, "#two/conv1/")
    painted(page)
    page.wait_for_function("document.querySelector('.whole img').naturalWidth > 0")
    assert broken == []


def swap(path: Path, old: str, new: str) -> None:
    path.write_text(path.read_text().replace(old, new))


AGAIN = f"Write them again: {REPAIR}"
SHEET, TABLE, FIRST = "one/conv5-0.webp", "one/maps-conv5.js", "one/network.js"
STRANGE = f"{TABLE} is damaged, or of other weights than this page. {AGAIN}"
OTHER = "These atlases have format 99, this page reads 3."
DAMAGE = [
    (lambda f: (f / SHEET).unlink(), f"{SHEET} is missing or damaged. {AGAIN}"),
    (lambda f: (f / SHEET).write_text("no picture"), f"{SHEET} is missing or damaged. {AGAIN}"),
    (lambda f: (f / TABLE).unlink(), f"{TABLE} is missing. {AGAIN}"),
    (lambda f: (f / TABLE).write_text("zfnet.take("), STRANGE),
    (lambda f: swap(f / TABLE, read_manifest(f / "one")["key"], "0" * 16), STRANGE),
    (lambda f: (f / FIRST).unlink(), f"{FIRST} is missing. {AGAIN}"),
    (lambda f: swap(f / NETWORKS, '"format":3', '"format":99'), f"{OTHER} {AGAIN}"),
    (
        lambda f: (f / NETWORKS).unlink(),
        f"There is no atlas here: {NETWORKS} is missing or damaged. Write it with: zfnet",
    ),
]


def test_damage_is_said_in_one_sentence(page, site, tmp_path) -> None:
    folder = shutil.copytree(site, tmp_path / "damaged")
    whole = {path: path.read_bytes() for path in (folder / name for name in (SHEET, TABLE, FIRST, NETWORKS))}
    for damage, said in DAMAGE:
        for path, content in whole.items():
            path.write_bytes(content)
        damage(folder)
        page.goto("about:blank")
        page.goto((folder / PAGE).as_uri())
        page.wait_for_function("!document.getElementById('trouble').hidden")
        assert page.locator("#trouble").inner_text().startswith(said)
        if said.startswith((TABLE, FIRST)):  # of two networks the whole one is shown
            expect(page.locator(".pane")).to_have_attribute("aria-label", "two")
            assert page.locator("#trouble").inner_text().startswith(said)


def test_a_layer_without_active_maps_and_pictures_without_names_are_said_to_be_so(page, site, tmp_path) -> None:
    folder = shutil.copytree(site, tmp_path / "copy")
    for name, old, new in ((TABLE, r"\[.*\]", "[]"), ("two/network.js", r'"labels":\[\d+\]', '"labels":[]')):
        (folder / name).write_text(re.sub(old, new, (folder / name).read_text()))
    page.goto((folder / PAGE).as_uri())
    expect(page.locator("#said")).to_have_text("one, conv5")
    expect(page).to_have_title("conv5 · one")
    opened(page, (folder / PAGE).as_uri(), "#two/conv2")
    ask(page, "cat")
    said = "These pictures have no labels and two gives no answers, so there is no name to search for."
    expect(page.locator(".found p")).to_have_text(said)


def test_in_a_frame_it_takes_the_theme_of_the_book_and_says_how_high_it_is(page, site) -> None:
    script = (PROJECT / "book/_static/browser-frame.js").read_text()
    outer = site / "outer.html"
    outer.write_text(
        f'<!doctype html><html data-theme="dark"><body style="margin: 0; width: 700px">'
        f'<iframe class="zfnet-browser" src="{PAGE}" style="width: 100%; height: 50px"></iframe>'
        f"<script>{script}</script></body></html>"
    )
    page.goto(outer.as_uri() + "#two/conv2")
    frame = page.frames[1]
    frame.wait_for_selector(".pane[aria-label=two] .projections .tile")
    page.wait_for_function("document.querySelector('iframe').offsetHeight > 800")
    paper = "getComputedStyle(document.body).backgroundColor"
    assert frame.evaluate(paper) == "rgb(20, 24, 30)"
    page.evaluate("document.documentElement.dataset.theme = 'light'")
    frame.wait_for_function(f"{paper} === 'rgb(255, 255, 255)'")
    assert frame.evaluate("document.documentElement.scrollHeight - innerHeight") <= 1
    outer.unlink()


def test_a_folder_with_other_things_gets_no_browser(tmp_path) -> None:
    (tmp_path / "mine.txt").write_text("precious")
    with pytest.raises(ZfnetError, match="holds something that is no browser; choose another folder for it"):
        write_browser(tmp_path, [], REPAIR)
    (atlas := tmp_path / "site/two").mkdir(parents=True)
    (atlas / "manifest.json").write_text("{")
    with pytest.raises(ZfnetError, match=r"holds no atlas \(.*\); write it with: zfnet atlas NETWORK --out"):
        write_browser(tmp_path / "site", [atlas], REPAIR)


def test_the_linked_browser_holds_every_prepared_map() -> None:
    net, shapes = ConvNet(MINI, seed=1).eval(), open_dataset("shapes", n=12)
    top, squares = strongest(net, shapes, layers=["conv1", "conv2"]), Squares(net, shapes)
    layers = {layer: list(blocks(net, squares, units, [0, 1, 5])) for layer, units in top.items()}
    tabs = linked_browser(layers)
    assert tabs.titles == ("conv1", "conv2")
    for tab, maps in zip(tabs.children, layers.values(), strict=True):
        slider, stack = tab.children
        assert list(slider.options) == [block.map for block in maps]
        for page, block in zip(stack.children, maps, strict=True):
            assert f"map {block.map}: nine projections" in page.value
            assert page.value.count("<li>") == len(block.units) >= 1
