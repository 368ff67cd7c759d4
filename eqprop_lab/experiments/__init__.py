"""Whole experiments: presets, YAML files, stored runs and what is compared between them, shipped
networks.
"""
