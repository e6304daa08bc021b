"""Questions that many quantizations of one network answer: how many bits, and in which layer."""
