"""What a tab with the page shows, read as a user would."""

from __future__ import annotations

from urllib.parse import urlencode

# Words in cells for those who do not see colours, or beside numbers.
_WORDS = ".sr, .as-if"


def texts(locator):
    return [text.strip() for text in locator.all_inner_texts()]


def address(view, **chosen):
    """The part of an address behind ``#/``."""
    return f"{view}?{urlencode(chosen)}" if chosen else view


def open_view(tab, view, **chosen):
    """Follow a link within the page."""
    tab.evaluate("(hash) => { location.hash = hash }", f"#/{address(view, **chosen)}")


def chosen_in_address(tab):
    """View, and what is chosen in it, as the address has them."""
    return tab.evaluate(
        """() => {
            const [view, query = ""] = location.hash.slice(2).split("?");
            return [view, Object.fromEntries(new URLSearchParams(query))];
        }"""
    )


def column(tab, field, table="#leaderboard-table"):
    """Texts of a column of a table, hyphens as Python prints them."""
    cells = tab.locator(f'{table} .tabulator-cell[tabulator-field="{field}"]')
    found = cells.evaluate_all(
        """(cells, words) => cells.map((cell) => {
            const gone = [...cell.querySelectorAll(words)];
            for (const each of gone) each.hidden = true;
            for (const each of gone) each.style.display = "none";
            const text = cell.innerText;
            for (const each of gone) { each.hidden = false; each.style.display = ""; }
            return text;
        })""",
        _WORDS,
    )
    return [" ".join(text.replace("−", "-").split()) for text in found]


def sort_by(tab, name):
    tab.locator(f'#leaderboard-table .tabulator-col[tabulator-field="{name}"] .sort').click()


def chart_numbers(tab, card):
    """The table behind a chart, cell by cell."""
    figure = tab.locator(f"#{card}")
    details = figure.locator(".notes details")
    if details.count() and details.get_attribute("open") is None:
        details.locator("summary").click()
    rows = figure.locator(".notes tbody tr")
    return [texts(rows.nth(i).locator("td")) for i in range(rows.count())]


def drawn(tab, card):
    tab.wait_for_selector(f"#{card} .main-svg")
