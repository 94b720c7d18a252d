"""Pixels to views: which crops of a window, native planes to RGB, and classical noise estimators."""
