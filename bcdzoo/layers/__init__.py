"""The vocabulary: quantizers, binary convolutions, activations and the units made of them."""
