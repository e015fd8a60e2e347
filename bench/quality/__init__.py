"""How good the embedding is: every figure by `eval_quality.py`'s definitions, through Kindred's own pipeline."""
