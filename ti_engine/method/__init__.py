"""The method's mathematics: noise levels, prediction types, losses. Pure functions of tensors."""
