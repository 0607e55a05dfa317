"""Speed and memory, measured against mmdet's detectors and dense methods.

``tools/analysis_tools/speed.py`` runs it; ``docs/speed.md`` explains it.
"""
