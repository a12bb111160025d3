"Vary (arXiv 2312.06109), reproduced in notebooks."
__version__ = "0.1.0"
