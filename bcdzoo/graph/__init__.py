"""From a torch network to a plan: recording what it computes, lowering that to operations, and fusing these."""
