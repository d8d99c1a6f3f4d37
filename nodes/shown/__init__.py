"""What the nodes show: reports, the loss plot, the norm plot."""
