"""The playground's page at three widths, in light and dark: axe-core finds nothing, and nothing is cut or spills.

Nothing here depends on what the page shows, beyond ``READY``. Screenshots of every section go to the folder that
``RESNET8_SCREENSHOTS`` names, as ``WIDTH-SCHEME-SECTION.png``.
"""

from __future__ import annotations

import os
import re
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import browser
import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from resnet8.data.assets import Assets

sync_api = pytest.importorskip("playwright.sync_api")
axe = pytest.importorskip("axe_playwright_python.sync_playwright")
pytest.importorskip("marimo")
pytest.importorskip("altair")

pytestmark = pytest.mark.skipif(
    browser.CHROMIUM is None, reason="no Chromium is installed (on Debian: apt-get install chromium)"
)

READY = "Nothing is changed yet"
"""The text up to which the page is loaded."""

MENU = r"button.lg\:hidden"
"""Marimo's button that opens the sidebar where there is no room for one."""

SIZES = {"desktop": (1440, 900), "tablet": (1024, 768), "phone": (390, 844)}

IMPACTS = ("serious", "critical")

STRICT = (
    "empty-heading",
    "empty-table-header",
    "heading-order",
    "image-redundant-alt",
    "page-has-heading-one",
    "scope-attr-valid",
    "table-duplicate-name",
)
"""Rules that are kept whatever axe-core says of their impact."""


@dataclass(frozen=True)
class Excuse:
    """A fault of the framework.

    Attributes:
        rule: Of axe-core, ``cut`` or ``chart-name``.
        selector: Of the elements, as narrow as can be; no page of ours can make such ones.
        reason: What is at fault there.
    """

    rule: str
    selector: str
    reason: str


FRAMEWORKS_OWN = (
    Excuse(
        "button-name", "aside.app-sidebar > .absolute > button", "the arrow that folds Marimo's sidebar has no name"
    ),
    Excuse("button-name", MENU, "nor has the button that opens it on a phone"),
    Excuse("button-name", "[data-testid=notebook-actions-dropdown] > button", "nor has Marimo's own menu, «…»"),
    Excuse(
        "aria-dialog-name",
        "[role=dialog]:has(> button.absolute.right-4)",
        "Marimo's sidebar on a phone is a sheet of shadcn/ui without a title: https://github.com/shadcn-ui/ui/issues/5983",
    ),
)

SETTLED = """
async () => {
  const walked = root => [...root.querySelectorAll('*')].reduce(
    (sum, one) => sum + 1 + (one.shadowRoot ? walked(one.shadowRoot) : 0), 0);
  const moving = one => one.playState === 'running' && one.effect.getComputedTiming().iterations !== Infinity;
  const state = () => [walked(document), ...[...document.querySelectorAll('#App > *')].map(one => one.scrollHeight),
    document.getAnimations().some(moving)].join();
  for (let last = '', same = 0; same < 4;) {
    await new Promise(done => setTimeout(done, 150));
    const now = state();
    same = now === last && now.endsWith('false') ? same + 1 : 0;
    last = now;
  }
}
"""
"""Waits until for 0.6 s the page has neither grown nor moved."""

HELPERS = """
const above = one => one.assignedSlot || one.parentElement || one.getRootNode().host || null;
const excused = (rule, one) => excuses.some(row => row.rule === rule && one.matches(row.selector));
const short = one => {
  const host = one.getRootNode().host;
  const id = one.id ? '#' + one.id : [...one.classList].slice(0, 3).map(name => '.' + name).join('');
  return (host ? short(host) + ' >>> ' : '') + one.tagName.toLowerCase() + id;
};
const near = one => {
  while (one.getRootNode().host) one = one.getRootNode().host;
  const before = [...document.querySelectorAll('h1, h2, h3')].filter(
    heading => heading.compareDocumentPosition(one) & Node.DOCUMENT_POSITION_FOLLOWING);
  return before.length ? ` (near «${before.at(-1).textContent.trim()}»)` : '';
};
"""

VIOLATIONS = (
    "async ({excuses, impacts, strict}) => {"
    + HELPERS
    + """
  const {violations} = await axe.run(document, {resultTypes: ['violations'], elementRef: true});
  return violations.filter(one => impacts.includes(one.impact) || strict.includes(one.id)).flatMap(
    one => one.nodes.filter(node => !excused(one.id, node.element)).map(node => ({
      rule: one.id, impact: one.impact, selector: node.target.flat().join(' >>> '),
      summary: [...node.any, ...node.all, ...node.none][0].message + near(node.element),
    })));
}
"""
)

CUT = (
    "({excuses}) => {"
    + HELPERS
    + """
  const found = [];
  const BUTTONS = 'button, [role=button], summary';
  const tell = (one, summary, rule = 'cut') => {
    if (!excused(rule, one)) found.push({rule, impact: 'serious', selector: short(one), summary: summary + near(one)});
  };
  const quoted = node => '«' + (node.textContent || node.alt || node.value || '').trim().slice(0, 40) + '»';
  // What scrolls here scrolls down; that it can scroll sideways too is none of the page's wishes.
  const page = one => one.matches('html, body, #App, aside.app-sidebar > div, [role=dialog]');
  const beyond = (inner, outer) => Math.round(Math.max(inner.right - outer.right, outer.left - inner.left));
  const over = (inner, outer) => Math.max(inner.bottom - outer.bottom, outer.top - inner.top);

  // Every ancestor that cuts off `box`, up to the first that scrolls to it.
  const look = (node, box, from) => {
    let across = true, down = true, absolute = false;
    for (let at = from; at && (across || down); at = above(at)) {
      const style = getComputedStyle(at), edge = at.getBoundingClientRect();
      const holds = !(absolute && style.position === 'static') && !/^(inline|contents)$/.test(style.display);
      if (holds) {
        absolute = style.position === 'absolute';
        if (edge.width <= 1 || edge.height <= 1) return;  // hidden from eyes on purpose
        if (across && (/hidden|clip/.test(style.overflowX) || page(at))) {
          if (beyond(box, edge) > 1) {
            tell(from, `${quoted(node)} is ${beyond(box, edge)} px wider than ${short(at)}, which cuts it`);
            across = false;
          }
        } else if (/auto|scroll/.test(style.overflowX)) across = false;
        if (down && /hidden|clip/.test(style.overflowY) && !page(at)) {
          if (over(box, edge) > Math.max(2, Math.min(box.height, 40) / 4)) {
            tell(from, `${quoted(node)} is ${Math.round(over(box, edge))} px higher than ${short(at)}, which cuts it`);
            down = false;
          }
        } else if (/auto|scroll/.test(style.overflowY)) down = false;
      }
      if (style.position === 'fixed') return;
    }
  };
  // The first ancestor whose edges are seen.
  const inside = (node, box, from) => {
    for (let at = from; at && !page(at); at = above(at)) {
      const style = getComputedStyle(at);
      if (/^(inline|contents)$/.test(style.display)) continue;
      if (/auto|scroll|hidden|clip/.test(style.overflowX) || at.matches(BUTTONS)) return;  // looked at elsewhere
      const filled = !/^rgba\\(.*, 0\\)$/.test(style.backgroundColor);
      if (filled || parseFloat(style.borderRightWidth) > 0) {
        const edge = at.getBoundingClientRect();
        const out = Math.max(beyond(box, edge), Math.round(over(box, edge) - Math.min(box.height, 40) / 4));
        if (out > 1) tell(from, `${quoted(node)} spills ${out} px out of ${short(at)}`);
        return;
      }
    }
  };
  const texts = [], buttons = [];
  const walk = root => {
    for (const one of root.childNodes) {
      if (one.nodeType === Node.TEXT_NODE) {
        const holder = one.parentElement || root.host;
        if (!one.textContent.trim() || !holder.checkVisibility({opacityProperty: true, visibilityProperty: true}))
          continue;
        const range = document.createRange();
        range.selectNodeContents(one);
        const box = range.getBoundingClientRect();
        if (box.width && box.height) {
          texts.push([one, box, holder]);
          look(one, box, holder);
          inside(one, box, holder);
          const button = holder.closest(BUTTONS);
          if (button && (holder === button || holder.offsetWidth !== 1)) {  // 1: for screen readers only
            const edge = button.getBoundingClientRect();
            const wider = beyond(box, edge), higher = Math.round(over(box, edge));
            if (wider > 1) tell(button, `the label ${quoted(one)} is ${wider} px wider than its button`);
            if (higher > 2) tell(button, `the label ${quoted(one)} is ${higher} px higher than its button`);
          }
        }
      } else if (one.nodeType === Node.ELEMENT_NODE) {
        if (/^(SCRIPT|STYLE|TEMPLATE|NOSCRIPT|OPTION)$/.test(one.tagName)) continue;
        const seen = one.checkVisibility({opacityProperty: true, visibilityProperty: true});
        const box = one.getBoundingClientRect();
        if (seen && box.width && box.height) {
          if (one.matches('img, canvas, svg, input, select, textarea, button') && !one.ownerSVGElement)
            look(one, box, above(one));
          if (one.matches(BUTTONS)) buttons.push([one, box]);
          if (one.getAttribute('aria-label') === 'Vega visualization')
            tell(one, 'the chart has no description', 'chart-name');
          if (one.matches('select') && one.selectedOptions.length) {
            const style = getComputedStyle(one), pen = document.createElement('canvas').getContext('2d');
            pen.font = style.font;
            const room = one.clientWidth - parseFloat(style.paddingLeft) - parseFloat(style.paddingRight);
            const wide = Math.round(pen.measureText(one.selectedOptions[0].text).width - room);
            if (wide > 1) tell(one, `«${one.selectedOptions[0].text}» is ${wide} px wider than its field`);
          }
        }
        if (one.shadowRoot) walk(one.shadowRoot);
        walk(one);
      }
    }
  };
  walk(document.querySelector('[role=dialog]') || document.body);
  // What floats above the page, while it is not scrolled.
  const floats = one => {
    for (let at = one; at && !page(at); at = above(at))
      if (/absolute|fixed/.test(getComputedStyle(at).position)) return !at.contains(document.querySelector('#App'));
    return false;
  };
  for (const [button, box] of buttons.filter(([one]) => floats(one)))
    for (const [node, text, holder] of texts) {
      const across = Math.min(box.right, text.right) - Math.max(box.left, text.left);
      const down = Math.min(box.bottom, text.bottom) - Math.max(box.top, text.top);
      if (across > 2 && down > 2 && !button.contains(holder) && !button.getRootNode().host?.contains(holder))
        tell(holder, `${quoted(node)} is under ${short(button)}, by ${Math.round(across)} x ${Math.round(down)} px`);
    }
  for (const one of document.querySelectorAll('html, #App'))
    if (one.scrollWidth > one.clientWidth + 1)
      tell(one, `the page is ${one.scrollWidth - one.clientWidth} px wider than the window`);
  return found;
}
"""
)


def faults(page: Any) -> list[str]:
    """What is wrong with the page as it is now, one line each: rule, impact, selector, summary."""
    page.evaluate(axe.Axe().axe_script)
    excuses = [asdict(one) for one in FRAMEWORKS_OWN]
    found = page.evaluate(VIOLATIONS, {"excuses": excuses, "impacts": IMPACTS, "strict": STRICT})
    found += page.evaluate(CUT, {"excuses": excuses})
    return [f"{one['rule']} ({one['impact']}): {one['selector']}: {one['summary']}" for one in found]


def shoot(page: Any, name: str) -> None:
    """A screenshot of the window, where screenshots are wanted."""
    wanted = os.environ.get("RESNET8_SCREENSHOTS")
    if wanted:
        page.screenshot(path=Path(wanted) / f"{name}.png")


def everything(page: Any) -> None:
    """All that is there only when it is asked for: a change, what comes of it, errors, tables, the other lists."""
    browser.run(page, f"{float(browser.value(page).input_value()) * 20:.6g}")
    count = page.get_by_role("textbox", name="How many").first
    count.fill("60")
    count.press("Enter")
    page.wait_for_timeout(500)  # the kernel takes it
    for button, text in (
        ("Errors of all layers", "Errors over 60 images"),
        ("Each layer alone", "Each layer alone over 60 images"),
        ("Compare many images", "Top-1 over 60 images"),
        ("Save", "Saved: "),
    ):
        page.get_by_role("button", name=button, exact=True).click()
        page.get_by_text(re.compile(f"^{text}")).first.wait_for()
    for folded in page.locator("button[data-state=closed]:has(svg)").filter(has_text=FOLDED).element_handles():
        folded.click()
    page.evaluate("() => { document.querySelector('#App').scrollTop = 0 }")


FOLDED = re.compile("^(.* in this folder|The whole network|Where the parameters|Its values|As a table|The same in)")
"""The titles of what is folded."""


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, demo_run: Path, demo_assets: Assets) -> Iterator[browser.Server]:
    work = tmp_path_factory.mktemp("server")
    home = {"RESNET8_ASSETS": demo_assets.keras_model.parent, "RESNET8_CACHE": demo_assets.keras_model.parent.parent}
    run = shutil.copytree(demo_run, work / "run")  # a changed model is saved there
    server = browser.Server([run], work / "log", os.environ | {name: str(at) for name, at in home.items()}, work)
    yield server
    server.close()


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("device", SIZES)
def test_everything_can_be_read_and_nothing_is_cut(served: browser.Server, device: str, scheme: str) -> None:
    size = SIZES[device]
    prefix = f"{size[0]}-{scheme}"
    with browser.opened(served, scheme, READY, size, phone=device == "phone") as page:
        page.evaluate(SETTLED)
        found = faults(page)
        shoot(page, f"{prefix}-top")
        everything(page)
        page.evaluate(SETTLED)
        found += faults(page)
        headings = page.get_by_role("heading", level=2).all()
        for heading in headings if "RESNET8_SCREENSHOTS" in os.environ else ():
            heading.evaluate("one => one.scrollIntoView()")
            page.evaluate(SETTLED)  # what is drawn only once it is seen
            shoot(page, f"{prefix}-{re.sub(r'[^a-z0-9]+', '-', heading.inner_text().lower()).strip('-')}")
        menu = page.locator(MENU)
        if menu.is_visible():
            menu.click()
            page.evaluate(SETTLED)
            found += faults(page)
            shoot(page, f"{prefix}-menu")
    assert headings
    assert not found, "\n".join(["", *(f"{size[0]} {scheme} {line}" for line in dict.fromkeys(found))])


@pytest.fixture(scope="module")
def blank() -> Iterator[Any]:
    """An empty page, on which what looks for faults is tried."""
    with sync_api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=browser.CHROMIUM, args=["--no-sandbox"])
        yield started.new_page(viewport={"width": 400, "height": 300})
        started.close()


SHADOW = "<div id=host></div><script>host.attachShadow({mode: 'open'}).innerHTML = `%s`</script>"
"""Marimo's elements hold what they show like this."""

FIT = """<!doctype html><html lang=en><title>t</title><main id=App><h1>Whole</h1>
<p>Text of any length, which goes on in the next line where it must
<div style="width: 50px; overflow: auto" tabindex=0><table><tr><td>unbreakablewords</table></div>
<div style="position: absolute; width: 1px; height: 1px; overflow: hidden">said, not shown</div>
<button>Whole</button><div style="display: none; width: 5px; overflow: hidden">not there</div></main>"""


def test_what_is_well_made_has_no_faults(blank: Any) -> None:
    blank.set_content(FIT)
    assert faults(blank) == []


@pytest.mark.parametrize(
    ("wrong", "rule", "said"),
    [
        ("<button><svg></svg></button>", "button-name", "inner text"),
        ("<p style='color: #999'>pale</p>", "color-contrast", "#999999, background color: #ffffff"),
        ("<img src='data:,' width=9 height=9>", "image-alt", "alt attribute"),
        ("<input>", "label", "label"),
        ("<h4>deep</h4>", "heading-order", "(near «Whole»)"),
        ("<div aria-label='Vega visualization' role='img'>a</div>", "chart-name", "no description"),
        ("<div style='width: 60px; overflow: hidden'>unbreakablewords</div>", "cut", "«unbreakablewords» is"),
        ("<div style='height: 9px; overflow: hidden'>high</div>", "cut", "«high» is"),
        ("<div style='width: 60px; border: 1px solid'>unbreakablewords</div>", "cut", "spills"),
        ("<button style='width: 60px'>unbreakablewords</button>", "cut", "wider than its button"),
        ("<button style='width: 60px; height: 20px'>in many short words</button>", "cut", "higher than its button"),
        ("<div style='width: 60px; height: 20px; border: 1px solid'>in many short words</div>", "cut", "spills"),
        ("<select style='width: 60px' title=t><option>unbreakablewords</select>", "cut", "wider than its field"),
        ("<div style='width: 999px; height: 9px'></div>", "cut", "wider than the window"),
        ("<input title=wide value=wide style='width: 999px'>", "cut", "«wide» is"),
    ],
)
@pytest.mark.parametrize("where", ["%s", SHADOW], ids=["plain", "shadow"])
def test_what_is_wrong_is_told(blank: Any, wrong: str, rule: str, said: str, where: str) -> None:
    blank.set_content(FIT.replace("</main>", where % wrong + "</main>"))
    assert any(line.startswith(f"{rule} (") and said in line for line in faults(blank))


def test_a_button_that_lies_over_text_is_told(blank: Any) -> None:
    blank.set_content(
        FIT + "<button style='position: fixed; left: 0; top: 20px; width: 90px; height: 30px'>on</button>"
    )
    assert any("«Whole» is under button" in line for line in faults(blank))


def test_a_fault_of_the_framework_is_excused_where_it_is_and_nowhere_else(blank: Any) -> None:
    menu = "<button class='lg:hidden'><svg></svg></button>"
    blank.set_content(FIT + menu)
    assert faults(blank) == []
    blank.set_content(FIT + menu.replace("lg:", ""))
    assert [line.split(" ")[0] for line in faults(blank)] == ["button-name"]
