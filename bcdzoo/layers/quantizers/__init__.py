"""What turns real numbers into few levels: the convolution's contract, the sign, and one file for each method's own."""
