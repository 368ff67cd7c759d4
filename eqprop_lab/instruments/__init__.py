"""What measures a model and changes nothing: gradients against references, norms, memory,
relaxations.
"""
