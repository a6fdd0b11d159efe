"""The report: one self-contained HTML file and its figures. No torch."""
