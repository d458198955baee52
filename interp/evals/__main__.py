"""Put puzzles to checkpoints and measure their held-out loss.

python -m interp.evals tiny-bqbv                                 puzzles, and the loss on held-out Wikipedia
python -m interp.evals tiny-symmetric tiny-bq --n-items 500 --open
python -m interp.evals runs/mine --items my_puzzles.json --corpus my_text/ -o reports/mine-puzzles
"""

from interp.evaluating import app

if __name__ == "__main__":
    app()
