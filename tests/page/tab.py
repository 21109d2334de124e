"""What a tab with the page shows, read as a user would."""

from __future__ import annotations


def texts(locator):
    return [text.strip() for text in locator.all_inner_texts()]


def column(tab, field):
    """Texts of a column of the leaderboard, hyphens as Python prints them."""
    cells = tab.locator(f'#leaderboard-table .tabulator-cell[tabulator-field="{field}"]')
    return [" ".join(text.replace("−", "-").split()) for text in texts(cells)]


def sort_by(tab, name):
    tab.locator(f'#leaderboard-table .tabulator-col[tabulator-field="{name}"] button').click()


def chart_numbers(tab, card):
    """The table behind a chart, cell by cell."""
    figure = tab.locator(f"#{card}")
    figure.locator("details summary").click()
    rows = figure.locator("tbody tr")
    return [texts(rows.nth(i).locator("td")) for i in range(rows.count())]


def drawn(tab, card):
    tab.wait_for_selector(f"#{card} .main-svg")
