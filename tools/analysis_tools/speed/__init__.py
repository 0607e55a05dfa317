"""What ``tools/analysis_tools/speed.py`` measures; only in a clone."""
