"""Checks that are long: a budget of minutes for each call, and the CIFAR-10 run that is spread over
several.
"""
