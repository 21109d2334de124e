"""Figures and the page: numbers first, as frozen objects, then drawn."""
