"""The report's page, part by part; ``pipeline/report.py`` puts it together."""
