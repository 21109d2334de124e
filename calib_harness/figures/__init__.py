"""Figures for papers: frozen numbers from `analysis`, drawn into axes of one's own."""
